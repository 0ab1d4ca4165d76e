//! What templates and expressions do to texts.

use regex::Regex;

use crate::limits::EXPRESSION_MAX_BYTES;

/// The part before the `@` of a mail address, with or without a name before it (`Alice <alice@example.com>`).
pub(crate) fn email_local(text: &str) -> Result<&str, String> {
    let bad = || format!("{text:?} is no mail address");
    let trimmed = text.trim();
    let address = match trimmed.strip_suffix('>') {
        Some(rest) => rest.rsplit_once('<').map(|(_, address)| address).ok_or_else(bad)?,
        None => trimmed,
    };
    let (local, domain) = address.rsplit_once('@').ok_or_else(bad)?;
    let atoms = |part: &str| {
        part.split('.')
            .all(|atom| !atom.is_empty() && atom.chars().all(is_atom))
    };
    if atoms(local) && atoms(domain) {
        Ok(local)
    } else {
        Err(bad())
    }
}

/// `atext` of RFC 5322, and all that is not ASCII (RFC 6532).
fn is_atom(c: char) -> bool {
    c.is_ascii_alphanumeric() || "!#$%&'*+-/=?^_`{|}~".contains(c) || (!c.is_ascii() && !c.is_control())
}

/// `text` with every match of `regex` replaced; `None` if there is none.
///
/// # Errors
/// The result would be longer than an expression may be: replacing can multiply.
pub(crate) fn replace(regex: &Regex, text: &str, to: &str) -> Result<Option<String>, String> {
    let mut out = String::new();
    let mut end = 0;
    let mut found = false;
    for captures in regex.captures_iter(text) {
        let Some(whole) = captures.get(0) else { continue };
        found = true;
        out.push_str(text.get(end..whole.start()).unwrap_or_default());
        captures.expand(to, &mut out);
        end = whole.end();
        if out.len() > EXPRESSION_MAX_BYTES {
            return Err(format!("regexp.replace makes more than {EXPRESSION_MAX_BYTES} bytes"));
        }
    }
    if !found {
        return Ok(None);
    }
    out.push_str(text.get(end..).unwrap_or_default());
    if out.len() > EXPRESSION_MAX_BYTES {
        return Err(format!("regexp.replace makes more than {EXPRESSION_MAX_BYTES} bytes"));
    }
    Ok(Some(out))
}

/// A text as it compares where case does not count.
pub(crate) fn fold(text: &str) -> String {
    match text.is_ascii() {
        true => text.to_ascii_lowercase(),
        false => text.chars().flat_map(char::to_lowercase).collect(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use regex::Regex;

    use super::{email_local, fold, replace};

    #[test]
    fn mail_addresses() {
        for (text, local) in [
            ("alice@example.com", "alice"),
            ("a.b+c@x", "a.b+c"),
            ("Alice A <alice@example.com>", "alice"),
            ("<alice@example.com>", "alice"),
        ] {
            assert_eq!(email_local(text), Ok(local), "{text}");
        }
        for text in [
            "no-at-sign",
            "",
            "@",
            "a@",
            "@b",
            "a b@c",
            "a@b@c",
            ".a@b",
            "a.@b",
            "a..b@c",
            "a@b.",
            "x>",
            "a@b>",
        ] {
            assert!(email_local(text).is_err(), "{text}");
        }
    }

    #[test]
    fn replacing_is_bounded() {
        let regex = Regex::new("a").unwrap();
        assert_eq!(replace(&regex, "xay", "<$0$0>"), Ok(Some("x<aa>y".to_owned())));
        assert_eq!(replace(&regex, "xy", "z"), Ok(None));
        let long = "a".repeat(100);
        assert!(replace(&regex, &long, &"$0".repeat(100)).is_err());
        assert!(replace(&regex, &format!("a{}", "b".repeat(8192)), "a").is_err());
    }

    #[test]
    fn folding_does_not_depend_on_the_neighbours() {
        assert_eq!(fold("RoOt"), "root");
        assert_eq!(fold("ΣΑΣ"), "σασ");
    }
}
