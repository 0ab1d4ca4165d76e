//! A YAML stream of resources; the roles in it are compiled. Nothing may panic.
#![no_main]

use std::path::Path;

use deskreel_config::{ReadOptions, Resource, read_resources};
use deskreel_policy::RoleSet;

libfuzzer_sys::fuzz_target!(|text: &str| {
    let options = |skip_foreign| ReadOptions {
        file: Path::new("fuzz.yaml"),
        base: Path::new("/"),
        skip_foreign,
    };
    let strict = read_resources(text, &options(false));
    let lenient = read_resources(text, &options(true));
    assert!(lenient.errors.len() <= strict.errors.len());
    for document in &strict.documents {
        for error in document.error("spec", "x").to_string().lines() {
            assert!(!error.contains('\u{1b}'));
        }
    }
    let roles = strict.documents.iter().filter_map(|document| match &document.resource {
        Resource::Role(role) => Some(role),
        _ => None,
    });
    let (_, problems) = RoleSet::compile(roles);
    for problem in problems {
        let _ = problem.to_string();
    }
});
