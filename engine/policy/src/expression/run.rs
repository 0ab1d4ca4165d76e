//! Evaluation of type-checked expressions. An error says why it can't be told.

use std::borrow::Cow;
use std::time::Duration;

use time::OffsetDateTime;

use super::check::{parse_duration, parse_pattern, parse_regex, parse_time};
use super::names::Facts;
use super::tree::{Bool, Known, List, Text, Time};
use crate::text::{email_local, replace};

type Run<T> = Result<T, String>;

pub(crate) fn bool(tree: &Bool, facts: &Facts<'_>) -> Run<bool> {
    Ok(match tree {
        Bool::Name(name) => facts.bool(*name)?,
        Bool::Or(items) => {
            for item in items {
                if bool(item, facts)? {
                    return Ok(true);
                }
            }
            false
        }
        Bool::And(items) => {
            for item in items {
                if !bool(item, facts)? {
                    return Ok(false);
                }
            }
            true
        }
        Bool::Not(inner) => !bool(inner, facts)?,
        Bool::Equal(left, right) => text(left, facts)? == text(right, facts)?,
        Bool::HasPrefix(whole, prefix) => text(whole, facts)?.starts_with(text(prefix, facts)?),
        Bool::Contains(items, item) => {
            let item = text(item, facts)?;
            list(items, facts)?.iter().any(|known| known == item)
        }
        Bool::ContainsAny(known, items) => {
            let known = list(known, facts)?;
            list(items, facts)?.iter().any(|item| known.contains(item))
        }
        Bool::ContainsAll(known, items) => {
            let (known, items) = (list(known, facts)?, list(items, facts)?);
            !items.is_empty() && items.iter().all(|item| known.contains(item))
        }
        Bool::AllEqual(items, item) => {
            let item = text(item, facts)?;
            list(items, facts)?.iter().all(|known| known == item)
        }
        Bool::AllEndWith(items, end) => {
            let end = text(end, facts)?;
            list(items, facts)?.iter().all(|item| item.ends_with(end))
        }
        Bool::IsSubset(items, known) => {
            let known = texts(known, facts)?;
            list(items, facts)?.iter().all(|item| known.contains(item))
        }
        Bool::RegexpMatch(items, pattern) => {
            let pattern = now(pattern, facts, parse_pattern)?;
            list(items, facts)?.iter().any(|item| pattern.matches(item))
        }
        Bool::Before(left, right) => time(left, facts)? < time(right, facts)?,
        Bool::Older(since, age) => {
            let age = *now(age, facts, parse_duration)?;
            older(facts.now, time(since, facts)?, age)
        }
    })
}

/// `since` is at least `age` ago.
fn older(now: OffsetDateTime, since: OffsetDateTime, age: Duration) -> bool {
    let passed = now - since;
    !passed.is_negative() && passed.unsigned_abs() >= age
}

fn text<'a>(tree: &'a Text, facts: &Facts<'a>) -> Run<&'a str> {
    match tree {
        Text::Literal(text) => Ok(text),
        Text::Name(name) => facts.text(*name),
        Text::Lookup(map, key) => {
            let value = facts.texts(*map)?.get(text(key, facts)?);
            Ok(value.map(String::as_str).unwrap_or_default())
        }
    }
}

fn texts<'a>(trees: &'a [Text], facts: &Facts<'a>) -> Run<Vec<Cow<'a, str>>> {
    trees.iter().map(|tree| Ok(Cow::Borrowed(text(tree, facts)?))).collect()
}

fn list<'a>(tree: &'a List, facts: &Facts<'a>) -> Run<Vec<Cow<'a, str>>> {
    Ok(match tree {
        List::One(one) => vec![Cow::Borrowed(text(one, facts)?)],
        List::Set(items) => texts(items, facts)?,
        List::Name(name) => facts
            .list(*name)?
            .iter()
            .map(|item| Cow::Borrowed(item.as_str()))
            .collect(),
        List::Trait(key) => {
            let values = facts.values_of_trait(text(key, facts)?)?;
            values.iter().map(|item| Cow::Borrowed(item.as_str())).collect()
        }
        List::LabelsMatching(pattern) => {
            let pattern = now(pattern, facts, parse_pattern)?;
            let labels = facts.labels.ok_or("there is no desktop to look at")?;
            let matching = labels.iter().filter(|(key, _)| pattern.matches(key));
            matching.map(|(_, value)| Cow::Borrowed(value.as_str())).collect()
        }
        List::Replace { list: items, regex, to } => {
            let regex = now(regex, facts, parse_regex)?;
            let to = text(to, facts)?;
            let mut replaced = Vec::new();
            for item in list(items, facts)? {
                replaced.extend(replace(&regex, &item, to)?.map(Cow::Owned));
            }
            replaced
        }
        List::EmailLocal(items) => {
            let items = list(items, facts)?;
            let locals = items.iter().map(|item| Ok(Cow::Owned(email_local(item)?.to_owned())));
            locals.collect::<Run<_>>()?
        }
        List::Upper(items) => change_case(list(items, facts)?, str::to_uppercase),
        List::Lower(items) => change_case(list(items, facts)?, str::to_lowercase),
    })
}

fn change_case<'a>(items: Vec<Cow<'a, str>>, change: impl Fn(&str) -> String) -> Vec<Cow<'a, str>> {
    items.into_iter().map(|item| Cow::Owned(change(&item))).collect()
}

fn time(tree: &Time, facts: &Facts<'_>) -> Run<OffsetDateTime> {
    match tree {
        Time::Name(name) => facts.time(*name),
        Time::Written(written) => Ok(*now(written, facts, parse_time)?),
    }
}

/// What is known already, or what its text says now.
fn now<'a, T: Clone>(known: &'a Known<T>, facts: &Facts<'a>, read: impl Fn(&str) -> Run<T>) -> Run<Cow<'a, T>> {
    match known {
        Known::Now(value) => Ok(Cow::Borrowed(value)),
        Known::Later(written) => read(text(written, facts)?).map(Cow::Owned),
    }
}
