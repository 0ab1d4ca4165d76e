//! Every walker over the same bytes: none may panic.
#![no_main]

use deskreel_rdp::wire::channel::{Chunk, Reassembler};
use deskreel_rdp::wire::client_info::{ClientInfo, Replacement};
use deskreel_rdp::wire::redirection::Redirection;
use deskreel_rdp::wire::{
    capability, connect, dvc, egfx, fast_path, find_pdu, mcs, monitor, rdpdr, share, touch, x224,
};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let _ = find_pdu(bytes);
    let _ = x224::find_opening(bytes);
    if let Ok(request) = x224::ConnectionRequest::parse(bytes) {
        let _ = x224::requested_desktop(&request);
    }
    let _ = x224::ConnectionConfirm::parse(bytes).map(|confirm| confirm.selected(3));
    let _ = connect::connect_initial(bytes);
    let _ = connect::connect_response(bytes);
    let _ = mcs::domain_pdu(bytes);
    for item in share::share_controls(bytes, 0..bytes.len()).flatten() {
        let _ = share::share_data(bytes, &item);
        let _ = capability::active(bytes, &item);
    }
    if let Ok(info) = ClientInfo::parse(bytes) {
        let same = info.splice(bytes, &Replacement::default());
        if info.reconnect_cookie.is_none() {
            assert_eq!(same.as_deref(), Ok(bytes));
        } else if let Ok(same) = same {
            // a reconnection cookie is taken out, and nothing else
            assert!(same.len() <= bytes.len());
            let again = ClientInfo::parse(&same).expect("what was spliced is whole");
            assert_eq!((again.reconnect_cookie, again.user_name), (None, info.user_name));
        }
    }
    let _ = fast_path::updates(bytes).map(|updates| updates.flatten().count());
    let _ = dvc::DvcPdu::parse(bytes, true);
    let _ = dvc::DvcPdu::parse(bytes, false);
    for item in egfx::commands(bytes).flatten() {
        let _ = egfx::capabilities(item.body);
    }
    let _ = monitor::layout(bytes);
    let _ = monitor::wish(bytes);
    let mut contacts = 0;
    let _ = touch::contacts(bytes, |_| contacts += 1);
    // the shortest one has five bytes
    assert!(contacts <= bytes.len() / 5);
    let _ = rdpdr::kind(bytes);
    let _ = rdpdr::RequestHead::parse(bytes);
    let _ = rdpdr::CompletionHead::parse(bytes);
    let _ = rdpdr::devices(bytes).map(|devices| devices.len());
    let _ = rdpdr::removed(bytes).map(|ids| ids.len());
    let _ = Redirection::parse(bytes).map(|redirection| redirection.target().len());
    let mut reassembler = Reassembler::new(64);
    for part in bytes.chunks(11) {
        if let Ok(chunk) = Chunk::parse(part) {
            let _ = reassembler.push(&chunk);
        }
    }
});
