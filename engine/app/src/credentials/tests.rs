#![allow(clippy::unwrap_used, reason = "tests")]

use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use super::*;

fn secret(text: &str) -> Zeroizing<String> {
    Zeroizing::new(text.to_owned())
}

fn new(user: &str, ttl: Duration) -> NewTicket {
    NewTicket {
        user: user.to_owned(),
        desktop: "lab".to_owned(),
        login: Some("root".to_owned()),
        ttl,
    }
}

const MINUTE: Duration = Duration::from_secs(60);

/// What stands in all files of `dir`.
fn everything(dir: &Path) -> Vec<u8> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        all.extend(std::fs::read(entry.unwrap().path()).unwrap());
    }
    all
}

fn holds(all: &[u8], part: &[u8]) -> bool {
    all.windows(part.len()).any(|window| window == part)
}

#[test]
fn a_password_proves_its_user_and_nobody_else() {
    let dir = tempfile::tempdir().unwrap();
    let store = Credentials::open(dir.path()).unwrap();
    let now = OffsetDateTime::now_utc();
    assert!(!store.any().unwrap());
    store.set_password("alice", &secret("Sesam öffne dich")).unwrap();
    assert!(store.any().unwrap() && store.has_password("alice").unwrap());
    let verify = |user: &str, password: &str| store.verify(user, password, now).unwrap();
    assert_eq!(verify("alice", "Sesam öffne dich"), Some(Proof::Password));
    assert_eq!(verify("alice", "sesam öffne dich"), None);
    assert_eq!(verify("bob", "Sesam öffne dich"), None);
    let candidates = store.candidates("alice", now).unwrap();
    assert_eq!(candidates.len(), 1);
    assert_eq!(candidates[0].hash, nt_hash("Sesam öffne dich"));
    // as many for somebody who is not there, worth nothing
    let nobody = store.candidates("bob", now).unwrap();
    assert_eq!((nobody.len(), &nobody[0].proof), (1, &Proof::Nobody));

    store.set_password("alice", &secret("new")).unwrap();
    assert_eq!(verify("alice", "Sesam öffne dich"), None);
    assert!(verify("alice", "new").is_some());
}

#[test]
fn nothing_in_the_files_is_a_secret() {
    let dir = tempfile::tempdir().unwrap();
    let store = Credentials::open(dir.path()).unwrap();
    store.set_password("alice", &secret("correct horse")).unwrap();
    let (_, ticket) = store.issue_ticket(new("alice", MINUTE)).unwrap();
    let all = everything(dir.path());
    for text in ["correct horse", ticket.as_str()] {
        assert!(!holds(&all, text.as_bytes()), "{text}");
        assert!(!holds(&all, nt_hash(text).as_ref()), "NT hash of {text}");
        assert!(!holds(&all, hex::encode(nt_hash(text).as_ref()).as_bytes()));
    }
    assert!(holds(&all, b"$argon2id$"));
    let mode = std::fs::metadata(dir.path().join("credentials.key"))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
    let shown = format!(
        "{store:?} {:?}",
        store.candidates("alice", OffsetDateTime::now_utc()).unwrap()
    );
    assert!(!shown.contains(&hex::encode(nt_hash("correct horse").as_ref())));
}

#[test]
fn a_ticket_is_taken_once_and_in_time() {
    let dir = tempfile::tempdir().unwrap();
    let store = Credentials::open(dir.path()).unwrap();
    let now = OffsetDateTime::now_utc();
    let (ticket, password) = store.issue_ticket(new("alice", MINUTE)).unwrap();
    assert_eq!(
        store.verify("alice", &password, now).unwrap(),
        Some(Proof::Ticket(ticket.clone()))
    );
    assert_eq!(store.verify("bob", &password, now).unwrap(), None);
    assert_eq!(store.candidates("alice", now).unwrap().len(), 2);
    // another process uses it
    let other = Credentials::open(dir.path()).unwrap();
    assert_eq!(other.tickets().unwrap(), std::slice::from_ref(&ticket));
    assert!(other.take_ticket(&ticket.id).unwrap());
    assert!(!store.take_ticket(&ticket.id).unwrap());
    assert_eq!(store.verify("alice", &password, now).unwrap(), None);

    let (ticket, password) = store.issue_ticket(new("alice", MINUTE)).unwrap();
    let later = now + 2 * MINUTE;
    assert_eq!(store.verify("alice", &password, later).unwrap(), None);
    assert!(ticket.expires > now && ticket.expires < later);
    let (short, _) = store.issue_ticket(new("bob", Duration::from_millis(1))).unwrap();
    std::thread::sleep(Duration::from_millis(5));
    assert!(!store.take_ticket(&short.id).unwrap(), "expired");
}

/// Several processes and threads at once, all of which have found the ticket good: one of them takes it.
#[test]
fn of_all_who_take_a_ticket_at_once_one_has_it() {
    let dir = tempfile::tempdir().unwrap();
    let stores = [(); 2].map(|()| Credentials::open(dir.path()).unwrap());
    for round in 0..20 {
        let (ticket, password) = stores[0].issue_ticket(new("alice", MINUTE)).unwrap();
        let together = std::sync::Barrier::new(12);
        let (stores, ticket, password, together) = (&stores, &ticket, &password, &together);
        let taken: Vec<bool> = std::thread::scope(|scope| {
            let takers: Vec<_> = (0..12)
                .map(|taker| {
                    scope.spawn(move || {
                        let store = &stores[taker % 2];
                        let proof = store.verify("alice", password, OffsetDateTime::now_utc()).unwrap();
                        assert_eq!(proof, Some(Proof::Ticket(ticket.clone())));
                        together.wait();
                        store.take_ticket(&ticket.id).unwrap()
                    })
                })
                .collect();
            takers.into_iter().map(|taker| taker.join().unwrap()).collect()
        });
        assert_eq!(taken.iter().filter(|taken| **taken).count(), 1, "round {round}");
    }
}

#[test]
fn tickets_are_bounded() {
    let dir = tempfile::tempdir().unwrap();
    let store = Credentials::open(dir.path()).unwrap();
    for ttl in [Duration::ZERO, Duration::from_secs(25 * 3600)] {
        assert!(store.issue_ticket(new("alice", ttl)).is_err());
    }
    let mut secrets = std::collections::BTreeSet::new();
    for _ in 0..16 {
        let (_, secret) = store.issue_ticket(new("alice", MINUTE)).unwrap();
        assert_eq!(secret.len(), 29);
        secrets.insert(secret.to_string());
    }
    assert_eq!(secrets.len(), 16);
    let error = store.issue_ticket(new("alice", MINUTE)).unwrap_err().to_string();
    assert!(error.contains("16 tickets"), "{error}");
    store.issue_ticket(new("bob", MINUTE)).unwrap();
}

#[test]
fn sealed_hashes_belong_to_one_key_and_one_user() {
    let dir = tempfile::tempdir().unwrap();
    let store = Credentials::open(dir.path()).unwrap();
    store.set_password("alice", &secret("a")).unwrap();
    // alice's row under another name opens nothing
    let row = store.catalog.password("alice").unwrap().unwrap();
    let now = OffsetDateTime::now_utc();
    store.catalog.set_password("root", &row, now).unwrap();
    assert!(store.candidates("root", now).unwrap().is_empty());

    let key = dir.path().join("credentials.key");
    std::fs::remove_file(&key).unwrap();
    let other = Credentials::open(dir.path()).unwrap();
    assert!(other.candidates("alice", now).unwrap().is_empty());
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o640)).unwrap();
    let error = Credentials::open(dir.path()).unwrap_err().to_string();
    assert!(error.contains("credentials.key has mode 640"), "{error}");
}

#[test]
fn what_can_be_no_password() {
    for (text, error) in [
        ("", password::PasswordError::Empty),
        ("a\nb", password::PasswordError::Control),
        ("$NTLM$:00112233445566778899aabbccddeeff", password::PasswordError::Hash),
    ] {
        assert_eq!(password::check(text), Err(error));
    }
    assert_eq!(password::check(&"x".repeat(257)), Err(password::PasswordError::TooLong));
    password::check(&"ä".repeat(256)).unwrap();
}

/// [MS-NLMP] 4.2.2.1.1
#[test]
fn nt_hash_of_the_specification() {
    assert_eq!(
        hex::encode(nt_hash("Password").as_ref()),
        "a4f49c406510bdcab6824ee7c30fd852"
    );
}
