#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;
use crate::catalog::{Closed, GapRow, IdentityKind, NewSession, SegmentRow};

/// Sessions a second apart; user and length differ.
pub(in crate::catalog) fn filled(count: u32) -> (tempfile::TempDir, Catalog, Vec<Uuid>) {
    let dir = tempfile::tempdir().unwrap();
    let catalog = Catalog::open(dir.path()).unwrap();
    let mut ids = Vec::new();
    for n in 0..count {
        let id = Uuid::from_u128(u128::from(n) + 1);
        let started = OffsetDateTime::UNIX_EPOCH + time::Duration::seconds(i64::from(n));
        let session = NewSession {
            id,
            started,
            user: format!("user{}", n % 3),
            identity: IdentityKind::Proven,
            login: "Root".to_owned(),
            desktop: "desk".to_owned(),
            desktop_addr: "10.0.0.1:3389".to_owned(),
            labels: [("env".to_owned(), if n % 2 == 0 { "prod" } else { "dev" }.to_owned())].into(),
            roles: Vec::new(),
            decision: None,
            client_addr: "127.0.0.1:1".to_owned(),
            client_name: "laptop".to_owned(),
        };
        catalog.session_started(&session).unwrap();
        for number in 0..2 {
            let segment = SegmentRow {
                number,
                bytes: u64::from(n % 5),
                sha256: String::new(),
                first_ns: 0,
                last_ns: 0,
                starts_with_key: true,
            };
            catalog.segment_sealed(id, &segment, &[]).unwrap();
        }
        if n + 1 < count {
            let closed = Closed {
                state: State::Complete,
                ended: started,
                duration_ms: u64::from(n % 7) * 1000,
                undecoded: 0,
                end_reason: "client_closed".to_owned(),
                problem: None,
                manifest_sha256: None,
            };
            catalog.closed(id, &closed, &[("disk", true)]).unwrap();
        }
        ids.push(id);
    }
    let gap = GapRow {
        from_ns: 0,
        to_ns: 5,
        reason: "queue_full".to_owned(),
    };
    catalog.gap(ids[4], &gap).unwrap();
    (dir, catalog, ids)
}

fn all(catalog: &Catalog, listing: &Listing) -> Vec<Uuid> {
    let (mut found, mut after) = (Vec::new(), None);
    loop {
        let page = catalog.page(listing, after, 7).unwrap();
        found.extend(page.iter().map(|row| row.id));
        after = page.last().map(|row| row.id);
        if page.len() < 7 {
            return found;
        }
    }
}

#[test]
fn pages_go_on_where_the_one_before_ended_in_every_order() {
    let (_dir, catalog, ids) = filled(40);
    let still = ids[39];
    for sort in [SortBy::Started, SortBy::Duration, SortBy::User, SortBy::Size] {
        for descending in [false, true] {
            let listing = Listing {
                sort,
                descending,
                ..Listing::default()
            };
            let mut found = all(&catalog, &listing);
            assert_eq!(found.len(), 39, "{sort:?} {descending}");
            let key = |id: &Uuid| {
                let n = ids.iter().position(|other| other == id).unwrap();
                let key = match sort {
                    SortBy::Started => n,
                    SortBy::Duration => n % 7,
                    SortBy::User => n % 3,
                    SortBy::Size => n % 5 * 2,
                };
                (key, n)
            };
            let mut sorted = found.clone();
            sorted.sort_by_key(key);
            if descending {
                sorted.reverse();
            }
            assert_eq!(found, sorted, "{sort:?} {descending}");
            found.dedup();
            assert!(!found.contains(&still), "a running session is listed apart");
        }
    }
    let running = Listing {
        running: true,
        ..Listing::default()
    };
    assert_eq!(all(&catalog, &running), [still]);
}

#[test]
fn filters_filter() {
    let (_dir, catalog, ids) = filled(20);
    let count = |listing: Listing| all(&catalog, &listing).len();
    assert_eq!(
        count(Listing {
            user: Some("SER1".to_owned()),
            ..Listing::default()
        }),
        6
    );
    assert_eq!(
        count(Listing {
            login: Some("root".to_owned()),
            ..Listing::default()
        }),
        19
    );
    assert_eq!(
        count(Listing {
            desktop: Some("other".to_owned()),
            ..Listing::default()
        }),
        0
    );
    let label = |value: Option<&str>| Some(("env".to_owned(), value.map(str::to_owned)));
    assert_eq!(
        count(Listing {
            label: label(Some("prod")),
            ..Listing::default()
        }),
        10
    );
    assert_eq!(
        count(Listing {
            label: label(None),
            ..Listing::default()
        }),
        19
    );
    assert_eq!(
        count(Listing {
            state: Some(State::Damaged),
            ..Listing::default()
        }),
        0
    );
    assert_eq!(
        count(Listing {
            min_ms: Some(6000),
            ..Listing::default()
        }),
        2
    );
    assert_eq!(
        count(Listing {
            max_ms: Some(0),
            ..Listing::default()
        }),
        3
    );
    let at = |seconds| Some(OffsetDateTime::UNIX_EPOCH + time::Duration::seconds(seconds));
    assert_eq!(
        count(Listing {
            from: at(5),
            to: at(8),
            ..Listing::default()
        }),
        3
    );
    assert_eq!(
        all(
            &catalog,
            &Listing {
                gaps: true,
                ..Listing::default()
            }
        ),
        [ids[4]]
    );
    for (text, expected) in [
        ("LAPTOP", 19),
        ("user2", 6),
        ("client_closed", 19),
        ("%", 0),
        ("' OR 1=1 --", 0),
    ] {
        assert_eq!(
            count(Listing {
                text: Some(text.to_owned()),
                ..Listing::default()
            }),
            expected,
            "{text}"
        );
    }
    let id = ids[3].to_string();
    assert_eq!(
        all(
            &catalog,
            &Listing {
                text: Some(id),
                ..Listing::default()
            }
        ),
        [ids[3]]
    );
}

#[test]
fn few_rows_that_are_far_down_are_found_by_what_is_in_their_words() {
    let (_dir, catalog, ids) = filled(30);
    let connection = catalog.lock();
    let rename = "UPDATE sessions SET user = ?2, problem = ?3 WHERE id = ?1";
    let id = ids[2].to_string();
    connection
        .execute(rename, [id.as_str(), "O\"Neil.Müller", "disk 100% full"])
        .unwrap();
    // As many rows as the window has, all newer, of somebody else.
    let more = "WITH RECURSIVE c (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM c WHERE i < 2100)
        INSERT INTO sessions (id, state, started_ms, user, identity, login, desktop, client_addr, client_name, labels)
        SELECT printf('99999999-0000-0000-0000-%012d', i), 'complete', 1000000 + i, 'other', 'proven', 'x', 'y', '', '', '{}'
        FROM c";
    connection.execute(more, []).unwrap();
    drop(connection);
    while catalog.read_words(500).unwrap() > 0 {}
    let texts = ["neil", "O\"NEIL", "Müller", "100% f", "full", &id];
    for text in texts {
        for sort in [SortBy::Started, SortBy::Size] {
            let listing = Listing {
                sort,
                descending: true,
                text: Some(text.to_owned()),
                ..Listing::default()
            };
            assert_eq!(all(&catalog, &listing), [ids[2]], "{text}");
            assert!(is_about(&catalog.page(&listing, None, 1).unwrap()[0], text), "{text}");
        }
    }
    let count = |listing: Listing| {
        let listing = Listing {
            descending: true,
            ..listing
        };
        all(&catalog, &listing).len()
    };
    let name = |name: &str| Some(name.to_owned());
    assert_eq!(
        count(Listing {
            user: name("O\"Ne"),
            ..Listing::default()
        }),
        1
    );
    assert_eq!(
        count(Listing {
            user: name("er1"),
            ..Listing::default()
        }),
        10
    );
    assert_eq!(
        count(Listing {
            user: name("r1"),
            ..Listing::default()
        }),
        10
    );
    assert_eq!(
        count(Listing {
            desktop: name("desk"),
            ..Listing::default()
        }),
        29
    );
    assert_eq!(
        count(Listing {
            gaps: true,
            ..Listing::default()
        }),
        1
    );
    let label = |value: &str| Some(("env".to_owned(), Some(value.to_owned())));
    assert_eq!(
        count(Listing {
            label: label("prod"),
            ..Listing::default()
        }),
        15
    );
    assert_eq!(
        count(Listing {
            label: label("pro"),
            ..Listing::default()
        }),
        0
    );
    catalog.deleted(ids[2], OffsetDateTime::UNIX_EPOCH, "ann", "x").unwrap();
    assert_eq!(
        count(Listing {
            text: name("neil"),
            ..Listing::default()
        }),
        1,
        "its row stays"
    );
}

#[test]
fn a_listing_answers_while_somebody_else_writes() {
    let (dir, catalog, _) = filled(20);
    let named = |name: &str| Listing {
        user: Some(name.to_owned()),
        ..Listing::default()
    };
    let other = Catalog::open(dir.path()).unwrap();
    let writer = other.lock();
    writer.execute_batch("BEGIN IMMEDIATE").unwrap();
    // Not among those that are searched yet, and found in the next look.
    catalog.page(&named("user1"), None, 50).unwrap();
    writer.execute_batch("ROLLBACK").unwrap();
    drop(writer);
    assert_eq!(catalog.page(&named("user1"), None, 50).unwrap().len(), 6);
}
