//! Speed of evaluation. Bars: one evaluation with 100 roles of 20 labels against one desktop under 200 us; what a user
//! may reach over 10,000 desktops under 1 s; both on one core.
//!
//! `cargo bench -p deskreel-policy`

#![allow(missing_docs, clippy::unwrap_used, reason = "a benchmark: it may stop at once")]

use std::collections::BTreeMap;
use std::hint::black_box;
use std::time::Duration;

use deskreel_config::{Metadata, Role, RoleConditions};
use deskreel_policy::{
    AccessRequest, Cluster, DesktopFacts, Identity, Locks, ProvenBy, RoleSet, UserFacts, Verdict, evaluate, reachable,
};
use time::OffsetDateTime;

const ROLES: usize = 100;
const LABELS: usize = 20;
const DESKTOPS: usize = 10_000;

/// CPU time of this thread: other work on the machine does not count.
fn cpu_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.try_into().unwrap(), time.tv_nsec.try_into().unwrap())
}

/// Half of the middle of `runs` runs: the median.
fn median(runs: usize, mut run: impl FnMut()) -> Duration {
    let mut times: Vec<_> = (0..runs)
        .map(|_| {
            let begun = cpu_time();
            run();
            cpu_time().saturating_sub(begun)
        })
        .collect();
    times.sort();
    times[runs / 2]
}

/// A role of 20 labels, all of which have to be looked at: only the last tells roles apart. One value in four is a
/// glob, one a regex, one has three alternatives.
fn role(index: usize, templates: bool) -> Role {
    let labels = (0..LABELS).map(|label| {
        let values = match label {
            19 => vec![format!("group-{index}")],
            _ if templates && label == 7 => vec!["{{external.team}}".to_owned()],
            _ => match label % 4 {
                0 => vec![format!("value-{label}")],
                1 => vec![format!("val*-{label}")],
                2 => vec![format!("^(value|other)-{label}$")],
                _ => vec!["a".to_owned(), "b".to_owned(), format!("value-{label}")],
            },
        };
        (format!("label-{label:02}"), values)
    });
    Role {
        metadata: Metadata {
            name: format!("role-{index:03}"),
            ..Metadata::default()
        },
        allow: RoleConditions {
            windows_desktop_labels: labels.collect(),
            windows_desktop_logins: vec!["{{internal.windows_logins}}".to_owned(), format!("svc-{index}")],
            ..RoleConditions::default()
        },
        ..Role::default()
    }
}

fn desktop(index: usize) -> DesktopFacts {
    let labels = (0..LABELS).map(|label| {
        let value = match label {
            19 => format!("group-{}", index % (2 * ROLES)),
            _ => format!("value-{label}"),
        };
        (format!("label-{label:02}"), value)
    });
    DesktopFacts {
        name: format!("desktop-{index}"),
        addr: "10.0.0.5:3389".to_owned(),
        labels: labels.collect(),
        domain: Some("corp.example".to_owned()),
        floor: None,
    }
}

fn request(desktop: Option<DesktopFacts>, login: Option<&str>) -> AccessRequest {
    AccessRequest {
        user: UserFacts {
            name: "alice".to_owned(),
            roles: (0..ROLES).map(|index| format!("role-{index:03}")).collect(),
            traits: BTreeMap::from([
                ("windows_logins".to_owned(), vec!["alice".to_owned(), "root".to_owned()]),
                ("team".to_owned(), vec!["value-7".to_owned(), "x".to_owned()]),
            ]),
            exists: true,
            ..UserFacts::default()
        },
        identity: Identity::Proven { by: ProvenBy::Password },
        desktop,
        login: login.map(str::to_owned),
        source: None,
        now: OffsetDateTime::UNIX_EPOCH,
        mfa_verified: false,
        open_sessions: 0,
    }
}

fn main() {
    let cluster = Cluster::default();
    let locks = Locks {
        locks: Vec::new(),
        viewed_at: OffsetDateTime::UNIX_EPOCH,
    };
    let desktops: Vec<_> = (0..DESKTOPS).map(desktop).collect();
    println!("{ROLES} roles of {LABELS} labels, CPU time of one thread, median");
    for templates in [false, true] {
        let written: Vec<_> = (0..ROLES).map(|index| role(index, templates)).collect();
        let compiling = median(5, || {
            black_box(RoleSet::compile(&written));
        });
        let (roles, problems) = RoleSet::compile(&written);
        assert!(problems.is_empty());
        let one = request(Some(desktop(50)), Some("root"));
        assert_eq!(evaluate(&roles, &cluster, &locks, &one).verdict, Verdict::Allow);
        let evaluation = median(2000, || {
            black_box(evaluate(&roles, &cluster, &locks, black_box(&one)));
        });
        let list = request(None, None);
        let mut found = 0;
        let listing = median(5, || {
            found = black_box(reachable(&roles, &cluster, &locks, black_box(&list), &desktops)).len();
        });
        assert_eq!(found, DESKTOPS / 2);
        let kind = if templates {
            "with a template in each role's labels"
        } else {
            "plain labels"
        };
        println!("{kind}:");
        println!(
            "  compile all roles                    {:>9.1} us",
            compiling.as_secs_f64() * 1e6
        );
        println!(
            "  one evaluation (bar 200 us)          {:>9.1} us",
            evaluation.as_secs_f64() * 1e6
        );
        println!(
            "  {DESKTOPS} desktops listed (bar 1 s)     {:>9.1} ms",
            listing.as_secs_f64() * 1e3
        );
    }
}
