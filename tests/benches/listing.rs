//! How quick the list of 100,000 recordings is: the pages' HTTP API, asked as the browser asks it, in every order and with
//! every filter. `cargo bench -p deskreel-tests --bench listing`; docs/performance.md holds the last numbers.
//! `BENCH_SESSIONS` (default 100000) and `BENCH_ROUNDS` (default 10) may be set; so may `BENCH_HOME`, an empty folder that is
//! filled the first time and used again then.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a benchmark fails by panicking")]

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use peers::gateway::{Gateway, Settings};
use peers::pages::{Browser, add_user};
use peers::process::{cpu_seconds, free_port, resident_bytes, run};

/// The bar for the 95th percentile of all questions.
const BAR: Duration = Duration::from_millis(50);

/// Fills the catalog as gateways would: every 50th recording has a gap, every 1000th is damaged, one user in a hundred
/// sessions is rare, and what happened in a recording is some lines of text.
const FILL: &str = r#"
import json, random, sqlite3, sys, uuid
path, count = sys.argv[1], int(sys.argv[2])
random.seed(7)
db = sqlite3.connect(path)
db.execute('PRAGMA synchronous = off')
words = [''.join(random.choice('abcdefghijklmnopqrstuvwxyz') for _ in range(random.randint(4, 11))) for _ in range(20000)]
begun = 1700000000000
for n in range(count):
    ms = begun + n * 600_000
    key = str(uuid.UUID(int=(ms << 80) | (7 << 76) | (2 << 62) | n))
    user = 'rare-person' if n % 5000 == 77 else 'user%03d' % random.randrange(400)
    state = 'damaged' if n % 1000 == 5 else 'complete'
    labels = json.dumps({'env': random.choice(['prod', 'dev', 'test']), 'team': 'team%d' % (n % 37)}, separators=(',', ':'))
    said = ' '.join(random.choices(words, k=60))
    if n % 10000 == 1234: said += '\nquarterly salaries.xlsx'
    db.execute('''INSERT INTO sessions (id, state, started_ms, ended_ms, duration_ms, user, identity, login, desktop, client_addr,
        client_name, end_reason, desktop_addr, labels, roles, events_read) VALUES (?, ?, ?, ?, ?, ?, 'proven', ?, ?, ?, ?, 'client_closed', ?, ?, '[]', 1)''',
        (key, state, ms, ms + 1, random.randrange(1000, 30_000_000), user, random.choice(['Administrator', 'svc', user]),
         'desktop%03d' % random.randrange(250), '10.0.%d.%d:5000' % (n % 250, n % 99), 'LAPTOP-%d' % (n % 900),
         '10.1.0.%d:3389' % (n % 250), labels))
    db.execute('UPDATE sessions SET n = ?, words_read = 1 WHERE id = ?', (n + 1, key))
    db.execute('INSERT INTO event_texts (rowid, text) VALUES (?, ?)', (n + 1, said))
    db.execute('''INSERT INTO session_words (rowid, user, login, desktop, labels, rest) SELECT n, user, login, desktop, labels,
        desktop_addr || char(10) || client_name || char(10) || client_addr || char(10) || end_reason FROM sessions WHERE id = ?''', (key,))
    for number in range(4):
        db.execute('INSERT INTO segments VALUES (?, ?, ?, ?, ?, ?, 1)', (key, number, random.randrange(20_000, 4_000_000), '0' * 64, 0, 1))
    for item in range(-1, 4):
        db.execute('INSERT INTO placements VALUES (?, ?, ?, 1, ?, NULL)', (key, item, 'disk', ms))
    if n % 50 == 3:
        db.execute("INSERT INTO gaps VALUES (?, 0, 5, 'queue_full')", (key,))
db.commit()
"#;

/// Name, question. `{cursor}` is where an earlier page ended.
const QUESTIONS: &[(&str, &str)] = &[
    ("newest first", ""),
    ("a page far down", "cursor={cursor}"),
    ("oldest first", "order=asc"),
    ("longest first", "sort=duration"),
    ("largest first", "sort=size"),
    ("smallest first", "sort=size&order=asc"),
    ("by user", "sort=user&order=asc"),
    ("a user", "user=user123"),
    ("a rare user", "user=rare"),
    ("a rare user, largest first", "user=rare&sort=size"),
    ("nobody", "user=nobody-has-this-name"),
    ("a desktop", "desktop=desktop042"),
    ("a login", "login=svc"),
    ("a label", "label=team%3Dteam12"),
    ("no such label", "label=none"),
    ("damaged ones", "state=damaged"),
    ("with gaps", "gaps=1"),
    ("over 8 hours", "min_ms=28800000"),
    ("a day", "from=2024-06-01T00:00:00Z&to=2024-06-02T00:00:00Z"),
    (
        "a day, largest first",
        "from=2024-06-01T00:00:00Z&to=2024-06-02T00:00:00Z&sort=size",
    ),
    ("text: a client", "q=LAPTOP-77"),
    ("text: in events", "q=salaries"),
    ("text: two words in events", "q=quarterly%20salar"),
    ("text: nowhere", "q=this-is-nowhere"),
    ("text and gaps", "q=rare&gaps=1"),
];

fn main() {
    let number = |name: &str, default: usize| std::env::var(name).map_or(default, |text| text.parse().unwrap());
    let (sessions, rounds) = (number("BENCH_SESSIONS", 100_000), number("BENCH_ROUNDS", 10));
    let temporary = tempfile::tempdir().unwrap();
    let home = std::env::var_os("BENCH_HOME").map_or(temporary.path().to_owned(), PathBuf::from);
    let port = free_port().unwrap();
    let mut settings = Settings::of(free_port().unwrap(), "async");
    settings.more = format!("web: {{listen: '127.0.0.1:{port}'}}\n");
    let is_filled = home.join("filled").exists();
    let mut gateway = Gateway::start(&home, &settings).unwrap();
    if !is_filled {
        add_user(&home, "ann", "auditor").unwrap();
        drop(gateway);
        fill(&home, sessions);
        gateway = Gateway::start(&home, &settings).unwrap();
    }
    gateway.process.wait_listening(port, Duration::from_secs(30)).unwrap();
    let mut browser = Browser::sign_in(port, "ann").unwrap();
    let middle = browser
        .get("/api/recordings?to=2024-08-01T00:00:00Z&limit=1")
        .unwrap()
        .json();
    let cursor = middle["next"].as_str().expect("a page far down").to_owned();
    let mut all = Vec::new();
    println!("| question | rows | median ms | largest ms |\n|---|---|---|---|");
    for (name, question) in QUESTIONS {
        let path = format!("/api/recordings?limit=50&{}", question.replace("{cursor}", &cursor));
        let mut times = Vec::new();
        let mut rows = 0;
        for _ in 0..rounds {
            let begun = Instant::now();
            let answer = browser.get(&path).unwrap();
            times.push(begun.elapsed());
            assert_eq!(answer.status, 200, "{path}");
            rows = answer.json()["recordings"].as_array().unwrap().len();
        }
        times.sort();
        let ms = |time: Duration| time.as_secs_f64() * 1000.0;
        println!(
            "| {name} | {rows} | {:.1} | {:.1} |",
            ms(times[times.len() / 2]),
            ms(*times.last().unwrap())
        );
        all.extend(times);
    }
    all.sort();
    let at = |part: usize| all[(all.len() * part / 100).min(all.len() - 1)];
    let pid = gateway.process.pid();
    println!(
        "p50 {:.1?}, p95 {:.1?}, p99 {:.1?} of {} questions (bar: p95 {BAR:?})",
        at(50),
        at(95),
        at(99),
        all.len()
    );
    println!(
        "gateway: {:.1} CPU s, {} MB resident",
        cpu_seconds(pid),
        resident_bytes(pid) / 1_000_000
    );
}

fn fill(home: &Path, sessions: usize) {
    let script = home.join("fill.py");
    fs::write(&script, FILL).unwrap();
    let begun = Instant::now();
    let catalog = home.join("data/catalog.sqlite");
    let arguments = [&script, &catalog].map(|path| path.display().to_string());
    run("python3", &[&arguments[0], &arguments[1], &sessions.to_string()]).unwrap();
    fs::write(home.join("filled"), "").unwrap();
    let bytes = fs::metadata(&catalog).unwrap().len();
    println!(
        "{sessions} sessions filled in {:.0?}, catalog of {} MB",
        begun.elapsed(),
        bytes / 1_000_000
    );
}
