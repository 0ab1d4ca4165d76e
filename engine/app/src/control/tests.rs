#![allow(clippy::unwrap_used, reason = "tests")]

use std::path::Path;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use deskreel_config::{ClusterMode, OnFailure};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::UnixStream;
use uuid::Uuid;

use super::SOCKET;
use super::protocol::{Answer, ErrorKind, Request};
use super::server::Server;
use crate::audit::Audit;
use crate::catalog::IdentityKind;
use crate::gateway::end::{EndReason, Ended};
use crate::gateway::grant::testing::everything;
use crate::gateway::registry::{Facts, Registry, Running};

fn running(id: &str) -> Arc<Running> {
    Running::new(Facts {
        id: Uuid::parse_str(id).unwrap(),
        started: SystemTime::now(),
        started_at: Instant::now(),
        client_addr: "10.0.0.1:5".parse().unwrap(),
        client_name: "LAPTOP".to_owned(),
        user: "ann".to_owned(),
        identity: IdentityKind::Claimed,
        login: "ann".to_owned(),
        desktop: "lab".to_owned(),
        desktop_addr: "lab:3389".to_owned(),
        decision: Arc::new(everything(ClusterMode::Off, OnFailure::Strict)),
    })
}

/// The answers to a line.
async fn say(data_dir: &Path, line: &[u8]) -> Vec<Answer> {
    let mut stream = UnixStream::connect(data_dir.join(SOCKET)).await.unwrap();
    stream.write_all(line).await.unwrap();
    let mut lines = BufReader::new(stream).lines();
    let mut answers = Vec::new();
    while let Some(line) = lines.next_line().await.unwrap() {
        answers.push(serde_json::from_str(&line).unwrap());
    }
    answers
}

async fn ask(data_dir: &Path, request: &Request) -> Answer {
    let line = serde_json::to_string(request).unwrap() + "\n";
    let mut answers = say(data_dir, line.as_bytes()).await;
    assert_eq!(answers.len(), 1, "{answers:?}");
    answers.remove(0)
}

fn kind(answer: &Answer) -> ErrorKind {
    match answer {
        Answer::Error { kind, .. } => *kind,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn sessions_are_listed_shown_and_ended() {
    let dir = tempfile::tempdir().unwrap();
    let registry = Registry::new(9);
    let server = Server::bind(dir.path(), registry.clone(), Audit::nowhere()).unwrap();
    let mode = std::fs::metadata(dir.path().join(SOCKET)).unwrap().permissions();
    assert_eq!(std::os::unix::fs::PermissionsExt::mode(&mode) & 0o777, 0o600);
    let server = tokio::spawn(server.run());
    let one = running("01902b6e-0000-7000-8000-000000000001");
    let two = running("01902b6f-0000-7000-8000-000000000002");
    let _entered = [registry.enter(&one).unwrap(), registry.enter(&two).unwrap()];

    let Answer::Sessions { sessions } = ask(dir.path(), &Request::List {}).await else {
        panic!()
    };
    assert_eq!(
        sessions.iter().map(|session| session.id).collect::<Vec<_>>(),
        [one.facts.id, two.facts.id]
    );
    let show = |id: &str| Request::Show { id: id.to_owned() };
    let Answer::Session { session } = ask(dir.path(), &show("01902B6F")).await else {
        panic!()
    };
    assert_eq!(
        (session.id, session.user.as_str(), session.level.as_str()),
        (two.facts.id, "ann", "off")
    );
    for wrong in ["01902b6", "", "9"] {
        assert_eq!(kind(&ask(dir.path(), &show(wrong)).await), ErrorKind::NotFound);
    }

    let terminate = |reason: &str| Request::Terminate {
        id: one.facts.id.to_string(),
        reason: reason.to_owned(),
    };
    for wrong in ["", "two\nlines", &"x".repeat(1001)] {
        assert_eq!(kind(&ask(dir.path(), &terminate(wrong)).await), ErrorKind::Request);
    }
    assert_eq!(
        ask(dir.path(), &terminate(" go home ")).await,
        Answer::Terminating { id: one.facts.id }
    );
    assert_eq!(one.ended().await, Ended::new(EndReason::Terminated, "go home"));
    server.abort();
    assert!(server.await.unwrap_err().is_cancelled());
    assert!(!dir.path().join(SOCKET).exists());
}

#[tokio::test]
async fn nonsense_is_answered_in_bounds() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join(SOCKET), "left by a dead gateway").unwrap();
    let server = Server::bind(dir.path(), Registry::new(9), Audit::nowhere()).unwrap();
    let _server = tokio::spawn(server.run());
    for line in [
        &b"\n"[..],
        b"{}\n",
        b"{\"request\": \"sudo\"}\n",
        b"{\"request\": \"list\", \"and\": 1}\n",
        b"\xff\n",
        &[b'x'; 16 << 10],
    ] {
        let answers = say(dir.path(), line).await;
        assert_eq!(kind(&answers[0]), ErrorKind::Request);
    }
    let watch = |frame_interval_ms| Request::Watch {
        id: "1".to_owned(),
        frame_interval_ms,
    };
    assert_eq!(kind(&ask(dir.path(), &watch(None)).await), ErrorKind::NotFound);
}

#[tokio::test]
async fn a_session_that_is_not_recorded_can_not_be_watched() {
    let dir = tempfile::tempdir().unwrap();
    let registry = Registry::new(9);
    let server = Server::bind(dir.path(), registry.clone(), Audit::nowhere()).unwrap();
    let _server = tokio::spawn(server.run());
    let session = running("01902b6e-0000-7000-8000-000000000001");
    let _entered = registry.enter(&session).unwrap();
    // it ends before its picture begins
    session.set_over(&Ended::new(EndReason::ClientClosed, "gone"));
    let line = format!("{{\"request\": \"watch\", \"id\": \"{}\"}}\n", session.facts.id);
    let answers = say(dir.path(), line.as_bytes()).await;
    assert!(
        matches!(answers[..], [Answer::Session { .. }, Answer::End { .. }]),
        "{answers:?}"
    );
}
