//! What an editor gave back: secrets that it did not see come back into it.

use serde_json::Value;

use super::read::{ReadOptions, Stream, node_of, read_with};
use crate::check::HIDDEN;
use crate::yaml::{Node, Yaml};

/// Reads a resource that was edited: as [`read_resources`](super::read_resources), but where it says `[hidden]` in place of a
/// password, that of the same login of `old` counts, which is the [`source`](super::Document::source) of what was shown. Not so
/// where `spec.addr` is another one: nobody sends a password that they don't know to a host of their own. Places are those of
/// `text`.
#[must_use]
pub fn read_edited(text: &str, options: &ReadOptions<'_>, old: &Value) -> Stream {
    let mut old = node_of(old);
    let host = address(&old);
    let known: Vec<(String, Node)> = passwords(&mut old)
        .into_iter()
        .map(|(login, password)| (login, password.clone()))
        .collect();
    read_with(text, options, &|document| {
        if address(document) != host {
            return;
        }
        for (login, password) in passwords(document) {
            let found = known.iter().find(|(name, _)| *name == login);
            if let (Yaml::Scalar(text, _), Some((_, secret))) = (&password.value, found)
                && text == HIDDEN
            {
                password.value = secret.value.clone();
            }
        }
    })
}

/// What is written as `spec.addr`.
fn address(document: &Node) -> Option<String> {
    match &document.child("spec")?.child("addr")?.value {
        Yaml::Scalar(addr, _) => Some(addr.clone()),
        _ => None,
    }
}

/// The passwords of `spec.gateway.credentials.logins`, with their logins.
fn passwords(document: &mut Node) -> Vec<(String, &mut Node)> {
    let path = ["spec", "gateway", "credentials", "logins"];
    let logins = path.iter().try_fold(document, |node, key| child(node, key));
    let Some(logins) = logins else { return Vec::new() };
    let logins = match logins {
        Node {
            value: Yaml::Sequence(logins),
            ..
        } => logins.iter_mut().collect(),
        one => vec![one],
    };
    logins.into_iter().filter_map(password).collect()
}

fn password(login: &mut Node) -> Option<(String, &mut Node)> {
    let name = match login.child("login").map(|name| &name.value) {
        Some(Yaml::Scalar(name, _)) => name.clone(),
        _ => String::new(),
    };
    Some((name, child(login, "password")?))
}

fn child<'a>(node: &'a mut Node, key: &str) -> Option<&'a mut Node> {
    let Yaml::Mapping(pairs) = &mut node.value else {
        return None;
    };
    let pair = pairs.iter_mut().find(|pair| pair.key == key)?;
    Some(&mut pair.value)
}
