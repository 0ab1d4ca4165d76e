#![allow(clippy::unwrap_used, reason = "tests")]

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use deskreel_config::{ClusterMode, OnFailure, Sources};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::UnixStream;
use uuid::Uuid;

use super::SOCKET;
use super::protocol::{Answer, ErrorKind, Request};
use super::server::Server;
use crate::access::{Access, Force, Who};
use crate::audit::Audit;
use crate::catalog::{Catalog, IdentityKind, NewSession};
use crate::gateway::end::{EndReason, Ended};
use crate::gateway::grant::testing::everything;
use crate::gateway::registry::{Entered, Facts, Registry, Running};

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

/// A server in a folder with an empty catalog.
fn bind(data_dir: &Path, registry: Registry) -> anyhow::Result<Server> {
    let sources = Sources {
        working_dir: data_dir.to_owned(),
        ..Sources::default()
    };
    let config = deskreel_config::load(&sources).unwrap().config;
    drop(Catalog::open(data_dir)?);
    Server::bind(data_dir, registry, Audit::nowhere(), Access::fixed(&config, &[]))
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
    let server = bind(dir.path(), registry.clone()).unwrap();
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
        sudo_user: None,
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
    let server = bind(dir.path(), Registry::new(9)).unwrap();
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
        sudo_user: None,
    };
    assert_eq!(kind(&ask(dir.path(), &watch(None)).await), ErrorKind::NotFound);
}

#[tokio::test]
async fn a_session_that_is_not_recorded_can_not_be_watched() {
    let dir = tempfile::tempdir().unwrap();
    let registry = Registry::new(9);
    let server = bind(dir.path(), registry.clone()).unwrap();
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

/// A server with rules for other accounts than the gateway's own, and ann's session.
struct Ruled {
    _dir: tempfile::TempDir,
    data_dir: PathBuf,
    access: Arc<Access>,
    catalog: Catalog,
    one: Arc<Running>,
    _entered: Entered,
    server: Server,
}

fn ruled() -> Ruled {
    let dir = tempfile::tempdir().unwrap();
    let role = |name: &str, rules: &str| {
        format!("kind: role\nversion: v7\nmetadata: {{name: {name}}}\nspec: {{allow: {{rules: [{rules}]}}}}\n---\n")
    };
    let user = |name: &str, role: &str| {
        format!("kind: user\nversion: v2\nmetadata: {{name: {name}}}\nspec: {{roles: [{role}]}}\n---\n")
    };
    let resources = [
        role("seer", "{resources: [session_tracker, session], verbs: [list, read]}"),
        role("guard", "{resources: [session], verbs: [list, read, terminate]}"),
        user("ann", "access"),
        user("sue", "seer"),
        user("gus", "guard"),
        role("watcher", "{resources: [session], verbs: [list, watch]}"),
        user("eve", "access"),
        user("wim", "watcher"),
    ];
    std::fs::create_dir(dir.path().join("resources")).unwrap();
    std::fs::write(dir.path().join("resources/r.yaml"), resources.concat()).unwrap();
    std::fs::write(
        dir.path().join("deskreel.yaml"),
        "data_dir: ./data\naudit: {on_failure: strict}\n",
    )
    .unwrap();
    let sources = Sources {
        file: Some("deskreel.yaml".into()),
        working_dir: dir.path().to_owned(),
        ..Sources::default()
    };
    let loaded = deskreel_config::load(&sources).unwrap();
    let data_dir = loaded.config.data_dir.clone();
    let access = Access::start(&loaded).unwrap();
    let audit = Audit::open(&loaded.config).unwrap();
    let one = running("01902b6e-0000-7000-8000-000000000001");
    let catalog = Catalog::open(&data_dir).unwrap();
    catalog.session_started(&new_session(&one)).unwrap();
    let registry = Registry::new(9);
    let entered = registry.enter(&one).unwrap();
    Ruled {
        server: Server::bind(&data_dir, registry, audit, Arc::clone(&access)).unwrap(),
        _dir: dir,
        data_dir,
        access,
        catalog,
        one,
        _entered: entered,
    }
}

#[tokio::test]
async fn other_accounts_are_ruled_and_every_refusal_is_told() {
    let Ruled {
        _dir,
        data_dir,
        one,
        _entered,
        server,
        ..
    } = ruled();
    let as_user = |name: &str| server.visitor(Who::User(name.to_owned()));
    let id = || "01902b6e".to_owned();

    // one's own is always listed; others' only with the right to it
    for (name, sees) in [("ann", 1), ("sue", 1), ("gus", 0), ("eve", 0), ("nobody", 0)] {
        let Ok(Answer::Sessions { sessions }) = as_user(name).list().await else {
            panic!("{name}")
        };
        assert_eq!(sessions.len(), sees, "{name}");
        assert_eq!(as_user(name).show(id()).await.is_ok(), sees == 1, "{name}");
    }
    // who may not know of it learns nothing of it; who may know of it is told why not
    let eve = kind(&as_user("eve").terminate(id(), "x").await.unwrap_err());
    assert_eq!(eve, ErrorKind::NotFound);
    assert_eq!(
        as_user("eve").terminate(id(), "x").await,
        as_user("eve").terminate("01902b6e".into(), "x").await
    );
    for name in ["ann", "sue"] {
        let refused = as_user(name).terminate(id(), "x").await.unwrap_err();
        assert_eq!(kind(&refused), ErrorKind::Denied, "{refused:?}");
    }
    let refused = as_user("gus")
        .watch(id(), None)
        .await
        .err()
        .map(|refused| kind(&refused));
    assert_eq!(refused, Some(ErrorKind::Denied));
    as_user("gus").terminate(id(), "go home").await.unwrap();
    assert_eq!(one.ended().await, Ended::new(EndReason::Terminated, "go home"));

    let refused = "DRA06W eve";
    assert_eq!(
        told(&data_dir),
        [
            refused,
            refused,
            refused,
            "DRA06W ann",
            "DRA06W sue",
            "DRA05W gus",
            "DRA06I gus"
        ]
    );
}

/// Who took the gateway's account by sudo stands in the audit log, beside the account. Other accounts can't claim it.
#[tokio::test]
async fn who_came_by_sudo_is_told() {
    let Ruled {
        _dir,
        data_dir,
        one,
        _entered,
        server,
        ..
    } = ruled();
    let _server = tokio::spawn(server.run());
    let request = Request::Terminate {
        id: one.facts.id.to_string(),
        reason: "go home".to_owned(),
        sudo_user: Some("wim".to_owned()),
    };
    assert_eq!(ask(&data_dir, &request).await, Answer::Terminating { id: one.facts.id });
    let events = crate::audit::last(&data_dir, &crate::audit::Filter::default(), usize::MAX).unwrap();
    let fields = &events.last().unwrap().fields;
    assert!(fields["user"].as_str().unwrap().starts_with("local:"), "{fields:?}");
    assert_eq!(fields["sudo_user"], "wim");
    assert_eq!(
        Who::User("eve".to_owned()).actor_from(Some("wim".to_owned())).sudo_user,
        None
    );
}

/// Codes and users of what the audit log has of sessions.
fn told(data_dir: &Path) -> Vec<String> {
    let all = crate::audit::last(data_dir, &crate::audit::Filter::default(), usize::MAX).unwrap();
    let of_sessions = all.iter().filter(|event| {
        let name = event.fields["event"].as_str();
        name.is_some_and(|name| name.starts_with("session."))
    });
    of_sessions
        .map(|event| {
            let field = |name: &str| event.fields[name].as_str().unwrap().to_owned();
            format!("{} {}", field("code"), field("user"))
        })
        .collect()
}

/// Whoever watches when a lock comes, or when the right goes, sees no more.
#[tokio::test]
async fn a_right_to_watch_that_goes_ends_the_watching() {
    let Ruled {
        _dir,
        data_dir,
        access,
        catalog,
        _entered,
        server,
        ..
    } = ruled();
    let lock = "kind: lock\nversion: v2\nmetadata: {name: l}\nspec: {target: {user: wim}}\n";
    let role = "kind: role\nversion: v7\nmetadata: {name: watcher}\nspec: {deny: {rules: [{resources: [session], verbs: \
                [watch]}]}}\n";
    for (change, why) in [(lock, "lock l is in force"), (role, "denied: watch session")] {
        let visitor = server.visitor(Who::User("wim".to_owned()));
        let (session, looked) = visitor.watch("01902b6e".into(), None).await.unwrap();
        let (ours, theirs) = UnixStream::pair().unwrap();
        let (_reader, mut writer) = theirs.into_split();
        let watching = tokio::spawn(async move {
            let withdrawn = visitor.withdrawn(looked);
            super::watch::run(&mut writer, &session, None, withdrawn).await
        });
        let mut lines = BufReader::new(ours).lines();
        // long enough for a busy machine; without the lock it would be told nothing for ever
        let mut next = async || {
            let line = tokio::time::timeout(Duration::from_secs(60), lines.next_line()).await;
            serde_json::from_str::<Answer>(&line.unwrap().unwrap().unwrap()).unwrap()
        };
        assert!(matches!(next().await, Answer::Session { .. }));
        let options = deskreel_config::ReadOptions {
            file: Path::new("t.yaml"),
            base: Path::new("/"),
            skip_foreign: false,
        };
        let documents = deskreel_config::read_resources(change, &options).documents;
        crate::access::replace(&catalog, &documents, Force::Confirmed, None, |_| Ok(())).unwrap();
        let Answer::Error { kind, message } = next().await else {
            panic!()
        };
        assert!(kind == ErrorKind::Denied && message.contains(why), "{message}");
        watching.await.unwrap().unwrap();
        if change == lock {
            crate::access::remove(&catalog, deskreel_config::ResourceKind::Lock, "l", |_| Ok(())).unwrap();
            while !access.view().locks().locks.is_empty() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    }
    assert_eq!(told(&data_dir).iter().filter(|event| *event == "DRA05W wim").count(), 2);
}

fn new_session(running: &Running) -> NewSession {
    NewSession {
        id: running.facts.id,
        started: running.facts.started.into(),
        user: running.facts.user.clone(),
        identity: running.facts.identity,
        login: running.facts.login.clone(),
        desktop: running.facts.desktop.clone(),
        desktop_addr: String::new(),
        labels: std::collections::BTreeMap::new(),
        roles: Vec::new(),
        decision: None,
        client_addr: String::new(),
        client_name: String::new(),
    }
}
