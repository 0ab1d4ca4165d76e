//! Guesses are counted, whichever way they come, and who guesses too often gets no further.

use std::fs;

use super::nla_client::{LOGON_FAILURE, PASSWORD, Wrap, folder};
use super::*;

/// A desktop that must not be asked for anything.
async fn untouched() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    (listener, addr)
}

async fn is_untouched(listener: &TcpListener) -> bool {
    let waiting = poll_fn(|context| Poll::Ready(listener.poll_accept(context).is_pending()));
    waiting.await
}

#[tokio::test]
async fn every_kind_of_nla_guess_counts_and_the_address_is_blocked() {
    let (desktop, addr) = untouched().await;
    for wrap in [Wrap::Raw, Wrap::Spnego, Wrap::SpnegoUnsigned] {
        let mut gateway = start_in(folder(addr, ", logon_failures_per_address_max: 3, logon_block: 1h")).await;
        for user in ["alice", "nobody", "alice"] {
            let (told, _) = gateway.log_on(protocol::HYBRID, wrap, user, "wrong").await;
            assert_eq!(told.status, Some(LOGON_FAILURE), "{wrap:?}");
            let (reason, _) = gateway.next_end().await;
            assert!(matches!(reason.as_str(), "wrong_password" | "unknown_user"), "{reason}");
        }
        // the right password looks wrong now
        let (told, _) = gateway.log_on(protocol::HYBRID, wrap, "alice", PASSWORD).await;
        assert_eq!(told.status, Some(LOGON_FAILURE), "{wrap:?}");
        gateway.expect("address_blocked").await;
        // without NLA the desktop would be asked first
        let answer = gateway.say(&connection_request(protocol::SSL, None)).await;
        assert_eq!(answer.get(5), Some(&0x80), "an X.224 disconnect request: {answer:02x?}");
        gateway.expect("address_blocked").await;
        assert!(is_untouched(&desktop).await);
    }
}

/// Who is not listened to and says no name is not told of, and hides nothing of those who say one.
#[tokio::test]
async fn the_audit_log_hears_once_of_a_blocked_address() {
    let (_desktop, addr) = untouched().await;
    let mut gateway = start_in(folder(addr, ", logon_failures_per_address_max: 3, logon_block: 1h")).await;
    for reason in ["wrong_password", "wrong_password", "wrong_password"] {
        gateway.log_on(protocol::HYBRID, Wrap::Raw, "alice", "wrong").await;
        gateway.expect(reason).await;
    }
    gateway.say(&connection_request(protocol::SSL, None)).await;
    gateway.expect("address_blocked").await;
    for _ in 0..2 {
        gateway.log_on(protocol::HYBRID, Wrap::Raw, "bob", "wrong").await;
        gateway.expect("address_blocked").await;
    }
    gateway.assert_clean().await;
    let told = crate::audit::last(gateway.shared.sessions.data_dir(), &crate::audit::Filter::default(), 50).unwrap();
    let blocked = told.iter().filter(|event| event.text("error") == "address_blocked");
    // a logon and the session that it would have begun
    assert_eq!(blocked.count(), 2, "{told:?}");
}

#[tokio::test]
async fn a_name_that_fails_has_to_wait_and_others_do_not() {
    let (desktop, addr) = untouched().await;
    let mut gateway = start_in(folder(
        addr,
        ", logon_block: 1h, logon_failures_max: 100, logon_failures_per_address_max: 100",
    ))
    .await;
    // each wait is twice as long as the one before: no machine is slow enough to meet them all
    let mut reason = String::new();
    for _ in 0..30 {
        let (told, _) = gateway.log_on(protocol::HYBRID, Wrap::Raw, "alice", "wrong").await;
        assert_eq!(told.status, Some(LOGON_FAILURE));
        (reason, _) = gateway.next_end().await;
        if reason != "wrong_password" {
            break;
        }
    }
    assert_eq!(reason, "user_waits");
    assert!(is_untouched(&desktop).await);
    let (told, _) = gateway.log_on(protocol::HYBRID, Wrap::Raw, "bob", PASSWORD).await;
    assert_eq!(told.status, Some(LOGON_FAILURE));
    gateway.expect("denied_no_desktop").await;
}

#[tokio::test]
async fn parallel_guesses_are_no_more_than_the_limit() {
    let (_desktop, addr) = untouched().await;
    let gateway = start_in(folder(addr, ", logon_failures_max: 4, logon_block: 1h")).await;
    let tries = (0..12).map(|_| gateway.log_on(protocol::HYBRID, Wrap::SpnegoUnsigned, "alice", "wrong"));
    let told = futures_all(tries.collect()).await;
    assert_eq!(told.len(), 12);
    let wrong = gateway
        .lines
        .ends()
        .iter()
        .filter(|(reason, _)| reason == "wrong_password")
        .count();
    assert!(wrong <= 4, "{:?}", gateway.lines.ends());
}

/// All of them, side by side on this task.
async fn futures_all<T>(futures: Vec<impl Future<Output = T>>) -> Vec<T> {
    let mut futures: Vec<_> = futures.into_iter().map(Box::pin).collect();
    let mut done: Vec<Option<T>> = futures.iter().map(|_| None).collect();
    poll_fn(|context| {
        for (future, done) in futures.iter_mut().zip(&mut done) {
            if done.is_none()
                && let Poll::Ready(value) = future.as_mut().poll(context)
            {
                *done = Some(value);
            }
        }
        if done.iter().all(Option::is_some) {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    })
    .await;
    done.into_iter().flatten().collect()
}

#[tokio::test]
async fn an_idle_secret_does_not_hold_a_logon_for_ever() {
    let (desktop, addr) = untouched().await;
    let dir = folder(addr, ", secret_timeout: 1s");
    let resources = dir.path().join("resources/all.yaml");
    let text = fs::read_to_string(&resources).unwrap();
    let logins = "gateway: {credentials: {logins: [{login: alice, password: {command: [sleep, '1000']}}]}}";
    let spec = format!("spec: {{addr: '{addr}'}}");
    assert!(text.contains(&spec));
    fs::write(
        &resources,
        text.replace(&spec, &format!("spec: {{addr: '{addr}', {logins}}}")),
    )
    .unwrap();
    let mut gateway = start_in(dir).await;
    let (told, _) = gateway.log_on(protocol::HYBRID_EX, Wrap::Raw, "alice", PASSWORD).await;
    assert_eq!((told.status, told.early), (None, Some(5)));
    let (reason, detail) = gateway.next_end().await;
    assert_eq!(reason, "secret_unavailable", "{detail}");
    assert!(detail.contains("gateway.secret_timeout"), "{detail}");
    assert!(is_untouched(&desktop).await);
}
