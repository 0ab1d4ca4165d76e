//! What a Decision says, in the words of the filter and the tap.

use deskreel_config::{ClipboardLevel, ClipboardRight, InputLevel, OnFailure};
use deskreel_policy::{Level, RecordingDecision, Rights};
use deskreel_rdp::phase::{ChannelRights, Right};
use deskreel_rdp::tap;

/// What the channels may do.
pub(super) fn channel_rights(rights: &Rights) -> ChannelRights {
    let clipboard = rights.clipboard;
    ChannelRights {
        clipboard_to_desktop: matches!(clipboard, ClipboardRight::Both | ClipboardRight::ToDesktop),
        clipboard_to_client: matches!(clipboard, ClipboardRight::Both | ClipboardRight::FromDesktop),
        clipboard_files: rights.drives,
        drives: rights.drives,
        printers: rights.printer,
        smart_cards: rights.smart_card,
        ports: rights.serial_port,
        usb: rights.usb,
        audio_output: rights.audio_output,
        audio_input: rights.audio_input,
        cameras: rights.camera,
        other: rights.other_channels,
    }
}

/// Why a right is lacking: the role option, and the role that says so where one does.
pub(super) fn why_not(rights: &Rights, right: Right) -> String {
    let (option, name) = match right {
        Right::Clipboard => ("desktop_clipboard", "clipboard"),
        Right::Drives => ("desktop_directory_sharing", "drives"),
        Right::Printers => ("desktop_printer", "printer"),
        Right::SmartCards => ("desktop_smart_card", "smart_card"),
        Right::Ports => ("desktop_serial_port", "serial_port"),
        Right::Usb => ("desktop_usb", "usb"),
        Right::AudioOutput => ("desktop_audio_output", "audio_output"),
        Right::AudioInput => ("desktop_audio_input", "audio_input"),
        Right::Cameras => ("desktop_camera", "camera"),
        Right::Other => ("desktop_other_channels", "other_channels"),
    };
    match rights.because.get(name) {
        Some(because) => format!("{option}: {because}"),
        None => option.to_owned(),
    }
}

/// What of the user's input is recorded.
pub(super) fn input_level(recording: &RecordingDecision) -> tap::InputLevel {
    match recording.input {
        InputLevel::None => tap::InputLevel::None,
        InputLevel::Mouse => tap::InputLevel::Mouse,
        InputLevel::All => tap::InputLevel::All,
    }
}

/// What of the clipboard is recorded.
pub(super) fn clipboard_level(recording: &RecordingDecision) -> tap::ClipboardLevel {
    match recording.clipboard {
        ClipboardLevel::None => tap::ClipboardLevel::None,
        ClipboardLevel::Facts => tap::ClipboardLevel::Facts,
        ClipboardLevel::Text => tap::ClipboardLevel::Text,
    }
}

/// Whether what is shown has to be recorded first.
pub(super) fn on_failure(recording: &RecordingDecision) -> OnFailure {
    match recording.level {
        Level::Strict => OnFailure::Strict,
        Level::Off | Level::BestEffort => OnFailure::BestEffort,
    }
}
