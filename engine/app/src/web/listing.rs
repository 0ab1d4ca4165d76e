//! The list of recordings.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, Query, State as Shared};
use deskreel_policy::Verb;
use serde::Deserialize;
use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use uuid::Uuid;

use super::Site;
use super::answer::{Failure, blocking};
use super::auth::Signed;
use super::desk::{Desk, Gateway};
use crate::access::recordings::{Ruler, facts};
use crate::catalog::{Listing, SessionRow, SortBy, State, is_about};

/// Rows of a page at most.
const LIMIT_MAX: u32 = 200;
/// Rows that one request looks through for those that the rules show; a page that is not full then says where to go on.
const SCAN_MAX: usize = 5000;
/// Running sessions that are shown on top.
const RUNNING_MAX: u32 = 200;
/// Longest text in a filter, in bytes.
const FILTER_MAX: usize = 1024;

/// What the page asks for.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Asked {
    limit: Option<u32>,
    sort: Option<String>,
    order: Option<String>,
    cursor: Option<Uuid>,
    q: Option<String>,
    state: Option<String>,
    user: Option<String>,
    desktop: Option<String>,
    login: Option<String>,
    label: Option<String>,
    from: Option<String>,
    to: Option<String>,
    min_ms: Option<u64>,
    max_ms: Option<u64>,
    gaps: Option<String>,
}

impl Asked {
    fn listing(&self) -> Result<Listing, Failure> {
        let texts = [&self.q, &self.user, &self.desktop, &self.login, &self.label];
        if texts
            .iter()
            .any(|text| text.as_ref().is_some_and(|text| text.len() > FILTER_MAX))
        {
            return Err(Failure::Request("a filter is too long"));
        }
        let moment = |text: &Option<String>| match text {
            None => Ok(None),
            Some(text) => OffsetDateTime::parse(text, &Rfc3339).map(Some),
        };
        let times = (moment(&self.from), moment(&self.to));
        let (Ok(from), Ok(to)) = times else {
            return Err(Failure::Request("from and to are times as RFC 3339 writes them"));
        };
        let state = match &self.state {
            None => None,
            Some(name) => Some(State::parse(name).ok_or(Failure::Request("there is no such state"))?),
        };
        Ok(Listing {
            sort: match self.sort.as_deref() {
                None | Some("started") => SortBy::Started,
                Some("duration") => SortBy::Duration,
                Some("user") => SortBy::User,
                Some("size") => SortBy::Size,
                Some(_) => return Err(Failure::Request("sort is started, duration, size or user")),
            },
            descending: self.order.as_deref() != Some("asc"),
            running: false,
            state,
            text: self.q.clone(),
            user: self.user.clone(),
            desktop: self.desktop.clone(),
            login: self.login.clone(),
            label: self.label.as_ref().map(|label| match label.split_once('=') {
                Some((key, value)) => (key.to_owned(), Some(value.to_owned())),
                None => (label.clone(), None),
            }),
            from,
            to,
            min_ms: self.min_ms,
            max_ms: self.max_ms,
            gaps: self.gaps.is_some(),
        })
    }
}

/// `GET /api/recordings`
pub(super) async fn recordings(
    Shared(site): Shared<Arc<Site>>,
    signed: Signed,
    Query(asked): Query<Asked>,
) -> Result<Json<Value>, Failure> {
    blocking(move || {
        let Desk::Gateway(gateway) = &site.desk else {
            return Err(Failure::NotFound);
        };
        let listing = asked.listing()?;
        let limit = asked.limit.unwrap_or(50).clamp(1, LIMIT_MAX) as usize;
        let live = match asked.cursor {
            None => {
                let running = Listing {
                    running: true,
                    ..listing.clone()
                };
                gateway.ruled(&signed.user, |ruler| {
                    let mut rows = ruler.visible(gateway.catalog.page(&running, None, RUNNING_MAX)?);
                    rows.retain(|row| shows(&listing, &ruler, row));
                    Ok::<_, Failure>(rows)
                })?
            }
            Some(_) => Vec::new(),
        };
        let page = page(gateway, &signed.user, &listing, asked.cursor, limit)?;
        let shown = |rows: &[SessionRow]| -> Result<Vec<Value>, Failure> {
            let describe = |row: &SessionRow| {
                let mut described = describe(&site, &signed.user, row)?;
                described["said"] = is_said(listing.text.as_deref(), row).into();
                Ok(described)
            };
            rows.iter().map(describe).collect()
        };
        Ok(Json(json!({
            "live": shown(&live)?,
            "recordings": shown(&page.rows)?,
            "next": page.next,
        })))
    })
    .await
}

/// Whether the row may be told as found: what only the events say, only those may find who may read them.
fn shows(listing: &Listing, ruler: &Ruler<'_>, row: &SessionRow) -> bool {
    !is_said(listing.text.as_deref(), row) || ruler.may(Verb::Read, &facts(row), OffsetDateTime::now_utc()).allowed
}

/// Whether only the events have what was searched for.
fn is_said(text: Option<&str>, row: &SessionRow) -> bool {
    text.is_some_and(|text| !is_about(row, text))
}

/// Rows that the rules show, and where to go on.
struct Page {
    rows: Vec<SessionRow>,
    next: Option<Uuid>,
}

fn page(gateway: &Gateway, user: &str, listing: &Listing, after: Option<Uuid>, limit: usize) -> Result<Page, Failure> {
    let now = OffsetDateTime::now_utc();
    gateway.ruled(user, |ruler| {
        let (mut rows, mut after, mut scanned) = (Vec::new(), after, 0);
        loop {
            // One more than is shown: whether there is another page.
            let batch = u32::try_from(limit + 1).unwrap_or(LIMIT_MAX);
            let found = gateway.catalog.page(listing, after, batch)?;
            let is_last = found.len() <= limit;
            scanned += found.len();
            for row in found {
                if rows.len() == limit {
                    return Ok(Page { rows, next: after });
                }
                after = Some(row.id);
                if ruler.may(Verb::List, &facts(&row), now).allowed && shows(listing, &ruler, &row) {
                    rows.push(row);
                }
            }
            if is_last || scanned >= SCAN_MAX {
                let next = after.filter(|_| !is_last);
                return Ok(Page { rows, next });
            }
        }
    })
}

/// `GET /api/recordings/{id}`
pub(super) async fn recording(
    Shared(site): Shared<Arc<Site>>,
    signed: Signed,
    Path(id): Path<Uuid>,
) -> Result<Json<Value>, Failure> {
    blocking(move || {
        let (row, _) = site.desk.glance(&signed.user, id)?;
        Ok(Json(describe(&site, &signed.user, &row)?))
    })
    .await
}

/// A row as the pages show it. Blocks.
pub(super) fn describe(site: &Site, user: &str, row: &SessionRow) -> Result<Value, Failure> {
    let (storages, verified) = match &site.desk {
        Desk::Gateway(gateway) => (gateway.catalog.shares(row.id)?, gateway.catalog.report(row.id)?),
        Desk::Alone(_) => (Vec::new(), None),
    };
    let mut described = serde_json::to_value(row).map_err(anyhow::Error::from)?;
    if let Value::Object(members) = &mut described {
        members.insert(
            "running".to_owned(),
            (row.state == State::Recording && row.ended.is_none()).into(),
        );
        members.insert(
            "storages".to_owned(),
            serde_json::to_value(storages).map_err(anyhow::Error::from)?,
        );
        members.insert("verified".to_owned(), verified.unwrap_or_default());
        let may = site.desk.may(user, row);
        members.insert(
            "may".to_owned(),
            serde_json::to_value(may).map_err(anyhow::Error::from)?,
        );
    }
    Ok(described)
}
