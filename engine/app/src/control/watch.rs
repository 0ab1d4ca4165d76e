//! The stream of one running session: what is recorded, as it is recorded, and pictures now and then.

use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tokio::net::unix::OwnedWriteHalf;
use tokio::time::{MissedTickBehavior, interval};

use super::protocol::{Answer, ErrorKind};
use super::server::{answer, error, session};
use crate::event_row;
use crate::gateway::registry::Running;
use crate::pipeline::{LiveEvent, Look};

/// How often a session is asked whether its picture has begun.
const BEGIN_INTERVAL: Duration = Duration::from_millis(100);

/// Follows a session until it ends, the watcher leaves, or the right to it is `withdrawn`.
pub(super) async fn run(
    writer: &mut OwnedWriteHalf,
    running: &Arc<Running>,
    frame_interval: Option<Duration>,
    withdrawn: impl Future<Output = String>,
) -> io::Result<()> {
    let mut withdrawn = pin!(withdrawn);
    let first = Box::new(session(running));
    answer(writer, &Answer::Session { session: first }).await?;
    let recorder = loop {
        if let Some(recorder) = running.recorder.get() {
            break recorder;
        }
        if running.over().is_some() {
            return answer(writer, &end(running)).await;
        }
        tokio::select! {
            () = tokio::time::sleep(BEGIN_INTERVAL) => {}
            why = &mut withdrawn => return answer(writer, &no_more(&why)).await,
        }
    };
    let Some(mut events) = recorder.watch() else {
        let message = "the session is not recorded, so there is nothing to watch";
        return answer(writer, &error(ErrorKind::NotRecorded, message)).await;
    };
    let mut frames = interval(frame_interval.unwrap_or(Duration::from_secs(3600)));
    frames.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            why = &mut withdrawn => return answer(writer, &no_more(&why)).await,
            event = events.recv() => match event {
                Some(event) => answer(writer, &told(&event)?).await?,
                // the recorder is gone with the session, or has let this watcher go
                None if running.over().is_some() => return answer(writer, &end(running)).await,
                None => {
                    let message = "the session goes on, but this watcher did not keep up";
                    return answer(writer, &error(ErrorKind::Lagged, message)).await;
                }
            },
            _ = frames.tick(), if frame_interval.is_some() => {
                if let Some(look) = recorder.look().await {
                    answer(writer, &frame(look).await?).await?;
                }
            }
            // a watcher says nothing more: what can be read is its leaving
            ready = writer.as_ref().readable() => {
                ready?;
                match writer.as_ref().try_read(&mut [0; 64]) {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    _ => return Ok(()),
                }
            }
        }
    }
}

fn no_more(why: &str) -> Answer {
    error(
        ErrorKind::Denied,
        &format!("this session may not be watched any more: {why}"),
    )
}

fn told(event: &LiveEvent) -> io::Result<Answer> {
    let event = event_row::row(event.time_ns, &event.event).map_err(io::Error::other)?;
    Ok(Answer::Event { event })
}

fn end(running: &Running) -> Answer {
    let reason = running.over().unwrap_or("the session is over").to_owned();
    Answer::End { reason }
}

/// A picture as PNG; made on a thread of its own.
async fn frame(look: Look) -> io::Result<Answer> {
    let encoded = tokio::task::spawn_blocking(move || -> Result<Answer, png::EncodingError> {
        let mut bytes = Vec::new();
        let mut encoder = png::Encoder::new(&mut bytes, look.width.into(), look.height.into());
        encoder.set_color(png::ColorType::Rgba);
        encoder.set_depth(png::BitDepth::Eight);
        encoder.set_compression(png::Compression::Fast);
        encoder.write_header()?.write_image_data(&look.rgba)?;
        Ok(Answer::Frame {
            time_ns: look.time_ns,
            png: STANDARD.encode(&bytes),
        })
    });
    encoded.await.map_err(io::Error::other)?.map_err(io::Error::other)
}
