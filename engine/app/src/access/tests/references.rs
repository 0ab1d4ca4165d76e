//! What documents must name rightly, and what is shown of presets.

use super::*;

#[test]
fn references_must_exist() {
    let check_text = |text: &str| {
        let documents = documents(text);
        let refs: Vec<&Document> = documents.iter().collect();
        let bed = Bed::new("", "");
        check(&refs, &look(&bed.loaded()).unwrap(), OffsetDateTime::now_utc())
    };
    let user = |roles: &str| format!("kind: user\nversion: v2\nmetadata: {{name: a}}\nspec: {{roles: [{roles}]}}\n");
    let errors = check_text(&user("acces, ghost")).errors;
    assert_eq!(
        errors[0].to_string(),
        "t.yaml:4:16: user/a: spec.roles[0]: there is no role \"acces\", did you mean access?"
    );
    assert_eq!(errors[1].message, "there is no role \"ghost\"");
    assert!(
        check_text(&format!("{}---\n{}", role("dev", "{}"), user("dev, access")))
            .errors
            .is_empty()
    );
    let lock = "kind: lock\nversion: v2\nmetadata: {name: l}\nspec: {target: {user: a, role: b}, expires: '2020-01-01T00:00:00Z'}\n";
    let found = check_text(lock);
    assert!(
        found.warnings[0].message.contains("has passed already") && found.lints[0].message.contains("several fields")
    );
}

#[test]
fn what_is_shown_of_presets_is_what_policy_has() {
    for preset in deskreel_policy::presets() {
        let mut entries = defaults().iter();
        let shown = entries.find(|entry| entry.name() == preset.metadata.name).unwrap();
        let deskreel_config::Resource::Role(role) = &shown.document.resource else {
            panic!("{}", shown.name())
        };
        assert_eq!((&role.allow, &role.deny), (&preset.allow, &preset.deny));
        assert_eq!(role.options, preset.options);
    }
}
