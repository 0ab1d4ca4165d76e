//! No secret is in what plugin and SDK log, however much they are asked to.

use std::fmt::Debug;
use std::sync::{Arc, Mutex};

use deskreel_sdk::tracing::field::{Field, Visit};
use deskreel_sdk::tracing::{self, Event, Metadata, span};

use super::*;

#[derive(Clone, Default)]
struct Everything(Arc<Mutex<String>>);

impl Everything {
    fn add(&self, record: impl FnOnce(&mut dyn Visit)) {
        struct Text(String);
        impl Visit for Text {
            fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
                self.0.push_str(&format!("{field}={value:?} "));
            }
        }
        let mut text = Text(String::new());
        record(&mut text);
        self.0.lock().unwrap().push_str(&text.0);
    }
}

impl tracing::Subscriber for Everything {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }
    fn new_span(&self, span: &span::Attributes<'_>) -> span::Id {
        self.add(|visit| span.record(visit));
        span::Id::from_u64(1)
    }
    fn record(&self, _: &span::Id, values: &span::Record<'_>) {
        self.add(|visit| values.record(visit));
    }
    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}
    fn event(&self, event: &Event<'_>) {
        self.add(|visit| event.record(visit));
    }
    fn enter(&self, _: &span::Id) {}
    fn exit(&self, _: &span::Id) {}
}

#[test]
fn the_log_at_its_loudest_has_no_secrets() {
    let folder = Folder::new().unwrap();
    let port = port();
    let faults = peers::faults::Faults::start(port).unwrap();
    let log = Everything::default();
    let _here = tracing::subscriber::set_default(log.clone());
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let more = json!({"endpoint": "http://storage.example", "proxy": format!("http://user:hush-proxy@127.0.0.1:{}", faults.port)});
        let storage = open(with(settings_in(folder.path(), port), &more)).await.unwrap();
        put(&storage, "a", bytes(1, 1000)).await.unwrap();
        whole(&storage, "a").await.unwrap();
        storage.check().await.unwrap();
        let more = json!({"secret_access_key": "hush-secret-key", "session_token": "hush-session-token"});
        let storage = open(with(settings_in(folder.path(), port), &more)).await.unwrap();
        storage.check().await.unwrap_err();
    });
    let log = log.0.lock().unwrap().clone();
    assert!(log.len() > 10_000, "the SDK logs nothing: {log}");
    for secret in [seaweed::SECRET, "hush-secret-key", "hush-proxy"] {
        assert!(!log.contains(secret), "the log has {secret}");
    }
}
