//! How long a recording is kept: the section `retention`.
//!
//! Of all rules that match a recording the longest counts, so that a rule more never deletes anything earlier. Only where
//! none matches the default counts. What can't be told (a `where` that fails) keeps the recording.

use std::time::Duration;

use deskreel_config::{Retention, RetentionRule};
use deskreel_policy::{CatalogSession, Patterns, SessionFilter};
use deskreel_sdk::PutOptions;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::access::recordings::facts;
use crate::catalog::{Catalog, SessionRow};

/// The section, compiled.
#[derive(Debug)]
pub(crate) struct Rules {
    default: Option<Duration>,
    rules: Vec<Rule>,
}

#[derive(Debug)]
struct Rule {
    keep: Option<Duration>,
    users: Patterns,
    desktops: Patterns,
    labels: Vec<(String, Patterns)>,
    filter: Option<SessionFilter>,
    source: String,
}

/// How long one recording is kept, and what says so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Term {
    /// From the end of the session; `None`: for ever.
    pub(crate) keep: Option<Duration>,
    /// `retention.default`, `retention.rules[2]`.
    pub(crate) source: String,
}

impl Term {
    /// When the time of a recording is over that ended then; `None`: never.
    pub(crate) fn until(&self, ended: OffsetDateTime) -> Option<OffsetDateTime> {
        // Beyond what a calendar holds is as good as never.
        ended.checked_add(self.keep?.try_into().ok()?)
    }
}

impl Rules {
    /// Compiles the section.
    ///
    /// # Errors
    /// A pattern or an expression that can't be read; names the key.
    pub(crate) fn new(config: &Retention) -> Result<Self, String> {
        Ok(Self {
            default: config.default,
            rules: config.rules.iter().map(rule).collect::<Result<_, _>>()?,
        })
    }

    /// Whether anything can ever be deleted by these rules.
    pub(crate) fn delete_nothing(&self) -> bool {
        self.default.is_none() && self.rules.iter().all(|rule| rule.keep.is_none())
    }

    /// How long a recording is kept; `None`: nothing in the configuration speaks of it, so it is kept for ever, and whoever
    /// may delete it may do so at any time.
    pub(crate) fn term(&self, row: &SessionRow, now: OffsetDateTime) -> Option<Term> {
        let session = &facts(row);
        let mut longest: Option<Term> = None;
        for rule in &self.rules {
            let term = match rule.matches(session, now) {
                Ok(false) => continue,
                Ok(true) => Term {
                    keep: rule.keep,
                    source: rule.source.clone(),
                },
                Err(error) => Term {
                    keep: None,
                    source: format!("{}.where, which fails: {error}", rule.source),
                },
            };
            let longer = longest.as_ref().is_none_or(|longest| match (longest.keep, term.keep) {
                (None, _) => false,
                (Some(_), None) => true,
                (Some(longest), Some(keep)) => keep > longest,
            });
            if longer {
                longest = Some(term);
            }
        }
        longest.or_else(|| {
            self.default.map(|keep| Term {
                keep: Some(keep),
                source: "retention.default".to_owned(),
            })
        })
    }

    /// Why a recording must not be deleted yet, if so.
    pub(crate) fn too_early(&self, row: &SessionRow, now: OffsetDateTime) -> Option<String> {
        let term = self.term(row, now)?;
        let id = row.id;
        match term.until(ended(row)) {
            None => Some(format!("recording {id} is kept for ever: {} says so", term.source)),
            Some(until) if until > now => Some(format!(
                "recording {id} is kept until {}: {} says so",
                crate::output::utc(until),
                term.source
            )),
            Some(_) => None,
        }
    }

    /// Until when a storage with object lock must keep the objects of a session, which may still run: what the rules say,
    /// from its start. Never later than what retention itself will say, which counts from the end.
    pub(crate) fn lock_until(&self, row: &SessionRow, now: OffsetDateTime) -> Option<OffsetDateTime> {
        let until = self.term(row, now)?.until(row.started)?;
        (until > now).then_some(until)
    }
}

impl Rules {
    /// What a storage with object lock is told of the objects of a recording. Blocks for as long as the catalog needs for a row.
    /// A recording that the catalog can't tell of is not locked: retention looks at it again later.
    pub(crate) fn put_options(&self, catalog: &Catalog, recording: Uuid, now: OffsetDateTime) -> PutOptions {
        let mut options = PutOptions::default();
        if self.delete_nothing() {
            return options;
        }
        let row = catalog.find(recording).unwrap_or_else(|error| {
            tracing::warn!(session = %recording, %error, "stored without object lock");
            None
        });
        let until = row.and_then(|row| self.lock_until(&row, now));
        options.retain_until_unix_s = until.and_then(|until| u64::try_from(until.unix_timestamp()).ok());
        options
    }
}

/// When a session was over. One whose end nobody knows lasted at least as long as what is recorded of it.
pub(crate) fn ended(row: &SessionRow) -> OffsetDateTime {
    let recorded = Duration::from_millis(row.duration_ms);
    row.ended.unwrap_or_else(|| {
        row.started
            .saturating_add(recorded.try_into().unwrap_or(time::Duration::MAX))
    })
}

fn rule(config: &RetentionRule) -> Result<Rule, String> {
    let source = &config.source_key;
    let patterns = |key: &str, texts: &[String]| {
        Patterns::compile(texts.iter().map(String::as_str)).map_err(|error| format!("{source}.{key}: {error}"))
    };
    let filter = config.filter.as_deref().map(SessionFilter::compile).transpose();
    let labels = config.labels.iter().map(|(label, texts)| {
        let patterns = patterns(&format!("labels.{label}"), texts)?;
        Ok((label.clone(), patterns))
    });
    Ok(Rule {
        keep: config.keep,
        users: patterns("users", &config.users)?,
        desktops: patterns("desktops", &config.desktops)?,
        labels: labels.collect::<Result<_, String>>()?,
        filter: filter.map_err(|error| format!("{source}.where: {error}"))?,
        source: source.clone(),
    })
}

impl Rule {
    fn matches(&self, session: &CatalogSession, now: OffsetDateTime) -> Result<bool, String> {
        let fits = |patterns: &Patterns, text: &str| patterns.is_empty() || patterns.matches(text);
        let labels = self.labels.iter().all(|(label, patterns)| {
            let value = session.desktop_labels.get(label);
            value.is_some_and(|value| patterns.matches(value))
        });
        if !fits(&self.users, &session.user) || !fits(&self.desktops, &session.desktop) || !labels {
            return Ok(false);
        }
        self.filter
            .as_ref()
            .map_or(Ok(true), |filter| filter.passes(session, now))
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;

    const DAY: Duration = Duration::from_secs(86_400);

    fn keep(days: u32) -> RetentionRule {
        RetentionRule {
            keep: Some(DAY * days),
            users: Vec::new(),
            desktops: Vec::new(),
            labels: std::collections::BTreeMap::new(),
            filter: None,
            source_key: format!("keep {days}"),
        }
    }

    fn rules(default: Option<Duration>, rules: Vec<RetentionRule>) -> Rules {
        compile(default, rules).unwrap()
    }

    fn compile(default: Option<Duration>, rules: Vec<RetentionRule>) -> Result<Rules, String> {
        Rules::new(&Retention {
            default,
            rules,
            purge_interval: Duration::from_secs(3600),
            purge_batch_max: 1,
        })
    }

    fn row() -> SessionRow {
        let started = OffsetDateTime::UNIX_EPOCH + time::Duration::days(20_000);
        SessionRow {
            user: "alice".into(),
            desktop: "kiosk-7".into(),
            labels: [("env".to_owned(), "prod".to_owned())].into(),
            started,
            ended: Some(started + time::Duration::hours(1)),
            ..SessionRow::unlisted(Uuid::nil())
        }
    }

    fn term(rules: &Rules, row: &SessionRow) -> Option<Term> {
        rules.term(row, row.started)
    }

    #[test]
    fn nothing_configured_keeps_for_ever_and_forbids_nothing() {
        let rules = rules(None, Vec::new());
        assert!(rules.delete_nothing());
        assert_eq!(term(&rules, &row()), None);
        assert_eq!(rules.too_early(&row(), row().started), None);
        assert_eq!(rules.lock_until(&row(), row().started), None);
    }

    #[test]
    fn the_longest_matching_rule_counts_in_any_order() {
        let by_user = RetentionRule {
            users: vec!["al*".into()],
            ..keep(30)
        };
        let by_label = RetentionRule {
            labels: [("env".to_owned(), vec!["test".to_owned(), "^pro".to_owned() + "d$"])].into(),
            ..keep(90)
        };
        let other = RetentionRule {
            desktops: vec!["server-*".into()],
            ..keep(900)
        };
        for order in [[0, 1, 2], [2, 1, 0], [1, 2, 0]] {
            let all = [by_user.clone(), by_label.clone(), other.clone()];
            let rules = rules(Some(DAY * 365), order.map(|index| all[index].clone()).to_vec());
            assert_eq!(term(&rules, &row()).unwrap().source, "keep 90", "{order:?}");
        }
        // Shorter than the default: a rule that matches counts alone.
        let only = rules(Some(DAY * 365), vec![by_user.clone()]);
        assert_eq!(term(&only, &row()).unwrap().keep, Some(DAY * 30));
        let stranger = SessionRow {
            user: "bob".into(),
            ..row()
        };
        assert_eq!(term(&only, &stranger).unwrap().source, "retention.default");
        // For ever is longer than anything.
        let for_ever = RetentionRule {
            keep: None,
            ..where_user_is("alice")
        };
        let rules = rules(None, vec![by_user, for_ever]);
        assert_eq!(term(&rules, &row()).unwrap().keep, None);
        assert!(
            rules
                .too_early(&row(), row().started + time::Duration::days(9999))
                .unwrap()
                .contains("for ever")
        );
    }

    #[test]
    fn everything_that_a_rule_names_must_match() {
        let both = RetentionRule {
            users: vec!["alice".into()],
            desktops: vec!["server-*".into()],
            ..keep(1)
        };
        let rules = rules(None, vec![both]);
        assert_eq!(term(&rules, &row()), None);
        let there = SessionRow {
            desktop: "server-1".into(),
            ..row()
        };
        assert_eq!(term(&rules, &there).unwrap().keep, Some(DAY));
        // A label that the desktop doesn't have matches nothing, not even `*`.
        let label = RetentionRule {
            labels: [("team".to_owned(), vec!["*".to_owned()])].into(),
            ..keep(1)
        };
        assert_eq!(term(&self::rules(None, vec![label]), &row()), None);
    }

    #[test]
    fn time_counts_from_the_end_and_the_lock_from_the_start() {
        let rules = rules(Some(DAY * 10), Vec::new());
        let row = row();
        let end = row.ended.unwrap();
        let over = end + time::Duration::days(10);
        assert!(
            rules
                .too_early(&row, over - time::Duration::seconds(1))
                .unwrap()
                .contains("retention.default")
        );
        assert_eq!(rules.too_early(&row, over), None);
        let lock = rules.lock_until(&row, row.started).unwrap();
        assert_eq!(lock, row.started + time::Duration::days(10));
        assert!(lock <= over, "what retention deletes is not locked any more");
        assert_eq!(rules.lock_until(&row, over), None);
        // Centuries are no overflow.
        let ages = self::rules(Some(Duration::MAX), Vec::new());
        assert!(ages.too_early(&row, over).is_some());
    }

    #[test]
    fn what_cannot_be_told_keeps() {
        let failing = RetentionRule {
            filter: Some("contains(email.local(session.user), \"x\")".into()),
            ..keep(1)
        };
        let Ok(rules) = compile(Some(DAY), vec![failing]) else {
            return;
        };
        let term = term(&rules, &row()).unwrap();
        assert_eq!(term.keep, None);
        assert!(term.source.contains("which fails"), "{}", term.source);
    }

    #[test]
    fn errors_name_the_key() {
        let bad = RetentionRule {
            users: vec!["^(al$".into()],
            ..keep(1)
        };
        assert!(
            compile(None, vec![bad])
                .unwrap_err()
                .starts_with("keep 1.users: \"^(al$\"")
        );
        let bad = RetentionRule {
            filter: Some("session.usr == \"a\"".into()),
            ..keep(1)
        };
        assert!(compile(None, vec![bad]).unwrap_err().starts_with("keep 1.where: "));
    }

    fn where_user_is(name: &str) -> RetentionRule {
        RetentionRule {
            filter: Some(format!("equals(session.user, \"{name}\")")),
            ..keep(1)
        }
    }
}
