//! Secrets and passwords in resources.

use super::*;

#[test]
fn secrets_are_hidden_and_kept() {
    let text = "kind: windows_desktop\nversion: v3\nmetadata: {name: d}\nspec: {addr: h, gateway: {credentials: {logins: \
                [{login: a, password: hunter2}, {login: b, password: {env: B}}]}}}\n";
    let bed = Bed::new("", "");
    bed.create(text, Force::Create).unwrap();
    let snapshot = look(&bed.loaded()).unwrap();
    let entry = &snapshot.entries[&(ResourceKind::WindowsDesktop, "d".to_owned())];
    let shown = entry.shown();
    assert!(!shown.to_string().contains("hunter2"), "{shown}");
    assert!(shown.to_string().contains("[hidden]") && shown.to_string().contains("env"));
    assert!(!format!("{entry:?}").contains("hunter2"));
    let options = ReadOptions {
        file: Path::new("edited.yaml"),
        base: Path::new("/"),
        skip_foreign: false,
    };
    let edited = |text: &str| read_edited(text, &options, &entry.document.source);
    let again = edited(&shown.to_string());
    assert_eq!(again.documents[0].source["spec"], entry.document.source["spec"]);
    // a mistake beside a hidden secret is told with its place, and without any secret
    let wrong = "kind: windows_desktop\nversion: v3\nmetadata: {name: d}\nspec:\n  addr: h\n  addr: hunter3\n  gateway:\n    \
                 credentials:\n      logins:\n      - {login: a, password: '[hidden]', pasword: hunter4}\n";
    let errors: Vec<String> = edited(wrong).errors.iter().map(ToString::to_string).collect();
    assert!(
        errors.iter().any(|error| error.starts_with("edited.yaml:6:3: ")),
        "{errors:?}"
    );
    assert!(
        errors.iter().any(|error| error.starts_with("edited.yaml:10:")),
        "{errors:?}"
    );
    assert!(!errors.concat().contains("hunter"), "{errors:?}");
    // a login that there was not before has no secret to come back
    let renamed = shown.to_string().replace("\"login\":\"a\"", "\"login\":\"c\"");
    assert!(edited(&renamed).errors[0].message.contains("write the secret itself"));
    // nobody sends a secret that they don't know to another host
    let moved = shown.to_string().replace("\"addr\":\"h\"", "\"addr\":\"elsewhere\"");
    let errors = edited(&moved).errors;
    assert!(errors[0].message.contains("when spec.addr changes"), "{errors:?}");
    // what get prints can't be stored by mistake
    let hidden = text.replace("hunter2", "'[hidden]'");
    let options = ReadOptions {
        file: Path::new("t.yaml"),
        base: Path::new("/"),
        skip_foreign: false,
    };
    let errors = read_resources(&hidden, &options).errors;
    assert!(errors[0].message.contains("write the secret itself"), "{errors:?}");
}

#[test]
fn a_new_user_inherits_nothing_of_one_of_the_name() {
    let user = "kind: user\nversion: v2\nmetadata: {name: ann}\nspec: {roles: [access]}\n";
    let bed = Bed::new("", user);
    drop(Access::start(&bed.loaded()).unwrap());
    let credentials = crate::credentials::Credentials::open(&bed.loaded().config.data_dir).unwrap();
    let password = zeroize::Zeroizing::new("A-password-1".to_owned());
    credentials.set_password("ann", &password).unwrap();
    // the folder's user goes, a command makes another
    bed.write("", "");
    drop(Access::start(&bed.loaded()).unwrap());
    bed.create(user, Force::Create).unwrap();
    assert!(!credentials.has_password("ann").unwrap());
    // a change of the user leaves the password, a removal does not
    credentials.set_password("ann", &password).unwrap();
    bed.create(&user.replace("[access]", "[auditor]"), Force::Replace)
        .unwrap();
    assert!(credentials.has_password("ann").unwrap());
    bed.remove(ResourceKind::User, "ann").unwrap();
    assert!(!credentials.has_password("ann").unwrap());
}

#[test]
fn secrets_in_clear_text_are_hidden_whatever_they_look_like() {
    for password in ["987654321", "secret", "true", "1.5"] {
        let mut document = serde_json::json!({"kind": "windows_desktop", "version": "v3", "metadata": {"name": "d"}, "spec": {"addr": "h", "gateway": {"credentials": {"logins": [
            {"login": "a", "password": serde_json::from_str::<serde_json::Value>(password).unwrap_or_else(|_| password.into())},
            {"login": "b", "password": {"env": "NAME"}},
        ]}}}});
        let clear = document.clone();
        entry::hide(&mut document);
        let shown = document.to_string();
        assert!(!shown.contains(password) && shown.contains("NAME"), "{shown}");
        let options = ReadOptions {
            file: Path::new("t.yaml"),
            base: Path::new("/"),
            skip_foreign: false,
        };
        let stream = read_edited(&shown, &options, &clear);
        assert_eq!(stream.documents[0].source, clear, "{:?}", stream.errors);
    }
}
