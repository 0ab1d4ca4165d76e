//! Running sessions: ending one.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State as Shared};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tracing::info;
use uuid::Uuid;

use super::Site;
use super::answer::{Failure, blocking};
use super::auth::Changing;
use super::desk::{Desk, TERMINATE};
use crate::control::protocol::REASON_MAX_CHARS;
use crate::gateway::end::{EndReason, Ended};

/// What the page sends.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Termination {
    reason: String,
}

/// `POST /api/sessions/{id}/terminate`
pub(super) async fn terminate(
    Shared(site): Shared<Arc<Site>>,
    Changing(signed): Changing,
    Path(id): Path<Uuid>,
    Json(Termination { reason }): Json<Termination>,
) -> Result<Json<Value>, Failure> {
    let reason = reason.trim().to_owned();
    let is_long = reason.chars().count() > REASON_MAX_CHARS;
    if reason.is_empty() || is_long || reason.chars().any(char::is_control) {
        return Err(Failure::Request(
            "a reason has 1 to 1000 characters, none of them a control character",
        ));
    }
    blocking(move || {
        let Desk::Gateway(gateway) = &site.desk else {
            return Err(Failure::NotFound);
        };
        gateway.gated(&signed, |gate| {
            let looked = gate.look(&id.to_string(), TERMINATE)?;
            let running = gateway
                .registry
                .list()
                .into_iter()
                .find(|running| running.facts.id == id);
            let Some(running) = running else {
                return Err(Failure::Request("the session is over"));
            };
            let details: Map<String, Value> = [("reason".to_owned(), reason.clone().into())].into_iter().collect();
            gate.begin(&looked, details).map_err(anyhow::Error::from)?.shown();
            info!(session = %id, user = signed.user, reason, "terminating");
            running.end(Ended::new(EndReason::Terminated, reason));
            Ok(Json(json!({"id": id})))
        })
    })
    .await
}
