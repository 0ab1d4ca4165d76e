//! What a session tells about itself on the wire. Everything here is merely claimed by the peers.

use crate::tap::StaticChannel;
use crate::wire::monitor::Monitor;

/// Facts gathered so far; what has not passed yet is empty, zero or `None`. Text is cleaned of control characters.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Facts {
    /// Name of the client's machine (CS_CORE clientName).
    pub client_name: String,
    /// Build of the client (CS_CORE clientBuild); 22621 for an mstsc of Windows 11, for example.
    pub client_build: u32,
    /// Protocol version of the client (CS_CORE version).
    pub client_version: u32,
    /// Keyboard layout id (CS_CORE keyboardLayout).
    pub keyboard_layout: u32,
    /// Width that the client asks for.
    pub requested_width: u16,
    /// Height that the client asks for.
    pub requested_height: u16,
    /// Colour depth that the client asks for, bits a pixel.
    pub color_depth: u16,
    /// CS_CORE earlyCapabilityFlags as sent by the client, 0 if absent.
    pub early_capability_flags: u16,
    /// Monitors as the client lists them (CS_MONITOR); empty for one.
    pub monitors: Vec<Monitor>,
    /// Static channels in the client's order; ids are 0 until the Connect Response.
    pub static_channels: Vec<StaticChannel>,
    /// MCS channel of screen and input.
    pub io_channel: u16,
    /// MCS channel of auto-detect and heartbeats.
    pub message_channel: Option<u16>,
    /// MCS user channel of the client (Attach User Confirm).
    pub user_channel: u16,
    /// User name as the desktop gets it: that of Client Info, or the login of its selector. Empty if the client sends none.
    /// Who asks is the selector's user where there is one.
    pub user_name: String,
    /// Domain of Client Info.
    pub domain: String,
    /// The selector that the user name carried (`user:desktop[:login]`).
    pub selector: Option<Selector>,
    /// Whether Client Info carried a password. The password itself is never kept.
    pub has_password: bool,
    /// Whether the client asked for a RemoteApp session.
    pub remote_app: bool,
    /// The client's own address as it says.
    pub client_address: String,
    /// Performance flags of Client Info (wallpaper, themes, ...), if sent.
    pub performance_flags: Option<u32>,
    /// Bulk compression that the desktop may use, after patching.
    pub bulk_compression: Option<BulkType>,
    /// Number of Demand Active PDUs so far.
    pub activations: u32,
    /// Share id of the current activation.
    pub share_id: u32,
    /// Source with which the desktop signs its share control PDUs; many put the client's own user channel there.
    pub originator: u16,
    /// Width of the desktop in the current activation.
    pub desktop_width: u16,
    /// Height of the desktop in the current activation.
    pub desktop_height: u16,
    /// Bits a pixel of the current activation.
    pub desktop_color_depth: u16,
    /// Bitmap codecs as the client listed them in its last Confirm Active, before patching: desktops that ignore the patch
    /// use these ids.
    pub bitmap_codecs: Vec<BitmapCodec>,
    /// MaxRequestSize of the client's Multifragment set, after patching.
    pub max_request_size: Option<u32>,
    /// The desktop honours Refresh Rect.
    pub refresh_rect_support: bool,
    /// The desktop honours Suppress Output.
    pub suppress_output_support: bool,
    /// The client has told the desktop to stop sending output (minimised).
    pub output_suppressed: bool,
    /// Version of the dynamic channel protocol that the client agreed to.
    pub dynamic_channel_version: Option<u16>,
}

impl Facts {
    /// Whether the client reads Set Error Info (RNS_UD_CS_SUPPORT_ERRINFO_PDU).
    #[must_use]
    pub fn supports_error_info(&self) -> bool {
        self.early_capability_flags & 0x0001 != 0
    }

    /// The name of a static channel.
    #[must_use]
    pub fn static_channel(&self, id: u16) -> Option<&str> {
        self.static_channels
            .iter()
            .find(|channel| channel.id == id)
            .map(|channel| channel.name.as_str())
    }
}

/// One entry of the client's BitmapCodecs set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BitmapCodec {
    /// The codec.
    pub guid: [u8; 16],
    /// The number that the client chose for it.
    pub id: u8,
    /// Its properties.
    pub properties: Vec<u8>,
}

/// Bulk compression types of Client Info ([MS-RDPBCGR] 2.2.1.11.1.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BulkType {
    /// MPPC, 8K history.
    Mppc8K,
    /// MPPC, 64K history.
    Mppc64K,
    /// RDP 6.0 (NCRUSH).
    Rdp6,
    /// RDP 6.1 (XCRUSH).
    Rdp61,
    /// Another number.
    Other(u8),
}

impl From<u8> for BulkType {
    fn from(kind: u8) -> Self {
        match kind {
            0 => Self::Mppc8K,
            1 => Self::Mppc64K,
            2 => Self::Rdp6,
            3 => Self::Rdp61,
            other => Self::Other(other),
        }
    }
}

/// A user name of the form `user:desktop[:login]`, taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selector {
    /// Who asks.
    pub user: String,
    /// Which desktop.
    pub desktop: String,
    /// The account on the desktop, if not the same name.
    pub login: Option<String>,
}
