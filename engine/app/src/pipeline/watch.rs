//! Watches the spool: keeps its reserve, tells of it filling up, and has delivery drop what isn't required in time.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

use super::courier::Order;
use super::spool::{Fill, Spool};
use crate::audit::{Audit, Event, Scope};

/// Between two looks.
const INTERVAL: Duration = Duration::from_secs(1);
/// Percentages at which somebody should know.
const ALERTS: [u8; 3] = [80, 90, 100];
/// An alert is over when the spool is so much emptier.
const CALM: u8 = 5;
/// From this percentage on nothing is kept for a storage that fails and isn't required.
const PRESSED: u8 = 80;

/// The alert that is on.
#[derive(Debug, Default)]
struct Alarm {
    /// 0: none.
    at: u8,
}

impl Alarm {
    /// True when there is something to tell: another alert is on than before, or none any more.
    fn update(&mut self, percent: u8) -> bool {
        let reached = ALERTS.into_iter().rfind(|alert| percent >= *alert).unwrap_or(0);
        let calm = percent.saturating_add(CALM) < self.at || reached > self.at;
        let changed = calm && reached != self.at;
        if changed {
            self.at = reached;
        }
        changed
    }
}

/// Watches until the courier is gone.
pub(super) async fn watch(spool: Arc<Spool>, audit: Audit, orders: mpsc::Sender<Order>) {
    let mut alarm = Alarm::default();
    let mut pressed = false;
    loop {
        let looked = Arc::clone(&spool);
        let look = move || {
            looked.tend_reserve();
            looked.fill()
        };
        match tokio::task::spawn_blocking(look).await {
            Ok(Ok(fill)) => {
                if alarm.update(fill.percent) {
                    tell(&audit, alarm.at, &fill);
                }
                let now = fill.percent >= PRESSED;
                if now != pressed && orders.send(Order::Pressed(now)).await.is_err() {
                    return;
                }
                pressed = now;
            }
            Ok(Err(error)) => tracing::error!(%error, "the spool can't be looked at"),
            Err(error) => tracing::error!(%error, "the look at the spool ended early"),
        }
        tokio::time::sleep(INTERVAL).await;
    }
}

fn tell(audit: &Audit, at: u8, fill: &Fill) {
    let Fill {
        used_bytes,
        free_bytes,
        percent,
        limit,
    } = *fill;
    match at {
        0 => tracing::info!(percent, used_bytes, free_bytes, "the spool has room again"),
        80 => tracing::warn!(percent, limit, used_bytes, free_bytes, "the spool fills up"),
        100 => tracing::error!(percent, limit, used_bytes, free_bytes, "the spool is full"),
        _ => tracing::error!(percent, limit, used_bytes, free_bytes, "the spool is nearly full"),
    }
    let event = Event::SpoolFill {
        alert: at,
        percent,
        limit,
        used_bytes,
        free_bytes,
    };
    audit.note(Scope::Node {}, event);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_alert_is_told_once_and_its_end_too() {
        let mut alarm = Alarm::default();
        let told: Vec<(u8, u8)> = [10, 79, 80, 85, 79, 76, 74, 80, 92, 100, 99, 96, 94, 60, 81]
            .into_iter()
            .filter(|percent| alarm.update(*percent))
            .map(|percent| (percent, 0))
            .collect();
        let percents: Vec<u8> = told.into_iter().map(|(percent, _)| percent).collect();
        assert_eq!(percents, [80, 74, 80, 92, 100, 94, 60, 81]);
    }
}
