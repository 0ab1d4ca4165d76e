/// Which way a PDU travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    /// From the client ("c2s").
    ToDesktop,
    /// From the desktop ("s2c").
    ToClient,
}

impl Direction {
    /// The other one.
    #[must_use]
    pub fn opposite(self) -> Self {
        match self {
            Self::ToDesktop => Self::ToClient,
            Self::ToClient => Self::ToDesktop,
        }
    }
}
