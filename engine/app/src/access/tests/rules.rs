//! Rules about resources.

use super::*;

#[test]
fn rules_about_resources_see_labels_and_what_can_be_opened() {
    let labelled = |name: &str, team: &str, addr: &str| {
        format!(
            "---\nkind: windows_desktop\nversion: v3\nmetadata: {{name: {name}, labels: {{team: {team}}}}}\nspec: {{addr: {addr}}}\n"
        )
    };
    let rule = |verbs: &str| {
        format!(
            "{{allow: {{rules: [{{resources: [role, user], verbs: [{verbs}], where: \
             'equals(resource.metadata.labels[\"team\"], \"blue\") && resource.metadata.labels[\"teleport.dev/origin\"] == \
             \"config-file\"'}}], windows_desktop_labels: {{team: blue, zone: inner}}, windows_desktop_logins: [a]}}}}"
        )
    };
    let team = |team: &str| role(team, "{}").replace("metadata: {", &format!("metadata: {{labels: {{team: {team}}}, "));
    let text = [
        role("lead", &rule("list, read, update")),
        "---\n".to_owned() + &team("blue"),
        "---\n".to_owned() + &team("red"),
        "---\nkind: user\nversion: v2\nmetadata: {name: ann}\nspec: {roles: [lead]}\n".to_owned(),
        labelled("d-blue", "blue", "10.1.1.1"),
        labelled("d-red", "red", "10.1.1.1"),
    ];
    let bed = Bed::new(
        "access: {host_labels: [{match: '^10[.]', labels: {zone: inner}}]}\n",
        &text.concat(),
    );
    let access = Access::start(&bed.loaded()).unwrap();
    let (view, snapshot) = (access.view(), look(&bed.loaded()).unwrap());
    assert!(view.problems.is_empty(), "{:?}", view.problems);
    let ann = Who::User("ann".to_owned());
    let object = |kind, name: &str| {
        let entry = &snapshot.entries[&(kind, name.to_owned())];
        snapshot.object(&entry.document, entry.origin)
    };
    let may = |verb, name: &str| {
        let object = object(ResourceKind::Role, name);
        ann.may(&view, ResourceKind::Role, verb, Some(&object)).is_ok()
    };
    assert!(may(deskreel_policy::Verb::Update, "blue") && !may(deskreel_policy::Verb::Delete, "blue"));
    assert!(!may(deskreel_policy::Verb::Read, "red") && !may(deskreel_policy::Verb::Read, "lead"));
    // of nothing in particular, a `where` about resources fails, and so grants nothing
    assert!(
        ann.may(&view, ResourceKind::Role, deskreel_policy::Verb::Read, None)
            .is_err()
    );
    let see = |name: &str| {
        let object = object(ResourceKind::WindowsDesktop, name);
        let verb = deskreel_policy::Verb::List;
        ann.may_see(&view, ResourceKind::WindowsDesktop, verb, &object).is_ok()
    };
    assert_eq!(object(ResourceKind::WindowsDesktop, "d-blue").labels["zone"], "inner");
    assert!(see("d-blue") && !see("d-red"));
    let nobody = Who::User("nobody".to_owned());
    let object = object(ResourceKind::WindowsDesktop, "d-blue");
    let verb = deskreel_policy::Verb::List;
    assert!(
        nobody
            .may_see(&view, ResourceKind::WindowsDesktop, verb, &object)
            .is_err()
    );
}
