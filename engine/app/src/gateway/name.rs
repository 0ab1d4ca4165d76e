//! A user name as people type it: `[DOMAIN\]user[:desktop[:login]]`.

/// The parts of a typed name. All of it is merely claimed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct TypedName {
    /// Who asks.
    pub(super) user: String,
    /// The domain before the name, or the one that the client sends apart.
    pub(super) domain: Option<String>,
    /// Which desktop.
    pub(super) desktop: Option<String>,
    /// Which account there.
    pub(super) login: Option<String>,
}

impl TypedName {
    /// Takes a name apart. A domain inside the name counts more than the client's own.
    pub(super) fn parse(name: &str, domain: Option<&str>) -> Self {
        let some = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
        // a backslash behind a colon belongs to the login
        let (inside, name) = match name.split_once('\\') {
            Some((domain, name)) if !domain.contains(':') => (Some(domain), name),
            _ => (None, name),
        };
        let mut parts = name.splitn(3, ':');
        Self {
            user: parts.next().unwrap_or_default().to_owned(),
            domain: inside.or(domain).and_then(some),
            desktop: parts.next().and_then(some),
            login: parts.next().and_then(some),
        }
    }

    /// The account that the user means when none is named: the own name, with the domain if there is one.
    pub(super) fn own_login(&self) -> String {
        match &self.domain {
            Some(domain) => format!("{domain}\\{}", self.user),
            None => self.user.clone(),
        }
    }
}

/// `DOMAIN\login` or `login@domain` as account and domain.
pub(super) fn split_domain(login: &str) -> (Option<&str>, &str) {
    match login.split_once('\\') {
        Some((domain, login)) => (Some(domain), login),
        None => (None, login),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms() {
        let of = |name, domain| {
            let TypedName {
                user,
                domain,
                desktop,
                login,
            } = TypedName::parse(name, domain);
            [Some(user), domain, desktop, login].map(Option::unwrap_or_default)
        };
        assert_eq!(of("alice", None), ["alice", "", "", ""]);
        assert_eq!(of("alice:lab", None), ["alice", "", "lab", ""]);
        assert_eq!(of("alice:lab:root", Some("")), ["alice", "", "lab", "root"]);
        assert_eq!(of("alice::root", None), ["alice", "", "", "root"]);
        assert_eq!(of("CORP\\alice:lab", Some("PC")), ["alice", "CORP", "lab", ""]);
        assert_eq!(
            of("alice:lab:CORP\\root", Some("PC")),
            ["alice", "PC", "lab", "CORP\\root"]
        );
        assert_eq!(of("alice@example.com:lab", None), ["alice@example.com", "", "lab", ""]);
        assert_eq!(TypedName::parse("CORP\\alice", None).own_login(), "CORP\\alice");
        assert_eq!(split_domain("CORP\\root"), (Some("CORP"), "root"));
    }
}
