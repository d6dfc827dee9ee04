//! What names caches and indexes may have, and which constant an index gets.

/// Why this cannot be the name of a cache or an index. `None`: it can.
pub(crate) fn complaint(name: &str) -> Option<String> {
    if name.is_empty() {
        return Some("the name is empty".to_owned());
    }
    let foreign = name.chars().find(|c| !c.is_ascii_alphanumeric() && !"_-.".contains(*c))?;
    Some(format!("{foreign:?} cannot be in a name; letters a to z and A to Z, digits, `_`, `-` and `.` can"))
}

/// The constant for an index, in capital letters: `email-domain` becomes `EMAIL_DOMAIN`. `None`: the name has nothing to make a constant
/// of.
pub(crate) fn constant(index: &str) -> Option<String> {
    let mut constant = String::with_capacity(index.len() + 4);
    for word in index.split(['_', '-', '.']).filter(|word| !word.is_empty()) {
        if !constant.is_empty() {
            constant.push('_');
        }
        let mut after_small = false;
        for letter in word.chars() {
            // `hostName` is two words, too.
            if after_small && letter.is_ascii_uppercase() {
                constant.push('_');
            }
            after_small = letter.is_ascii_lowercase();
            constant.push(letter.to_ascii_uppercase());
        }
    }
    match constant.chars().next()? {
        first if first.is_ascii_digit() => Some(format!("_{constant}")),
        _ => Some(constant),
    }
}

/// The name that is suggested for the cache of a type: `UserAccount` becomes `user_account`.
pub(crate) fn suggested_cache(type_name: &str) -> String {
    let mut name = String::with_capacity(type_name.len() + 4);
    for letter in type_name.trim_start_matches("r#").chars() {
        if letter.is_uppercase() && !name.is_empty() {
            name.push('_');
        }
        name.extend(letter.to_lowercase());
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_letters_digits_and_three_marks() {
        for name in ["id", "Email-Domain.v2_x", "2", "_"] {
            assert_eq!(complaint(name), None, "{name}");
        }
        for (name, culprit) in [("a b", "' '"), ("a:b", "':'"), ("größe", "'ö'"), ("a\n", "'\\n'"), ("{a}", "'{'")] {
            assert!(complaint(name).is_some_and(|text| text.starts_with(culprit)), "{name}");
        }
        assert!(complaint("").is_some());
    }

    #[test]
    fn an_index_becomes_a_constant_in_capital_letters() {
        for (index, expected) in [
            ("id", Some("ID")),
            ("email_domain", Some("EMAIL_DOMAIN")),
            ("tenant-slug.v2", Some("TENANT_SLUG_V2")),
            ("hostName", Some("HOST_NAME")),
            ("HTTPHost", Some("HTTPHOST")),
            ("_x_", Some("X")),
            ("2fa", Some("_2FA")),
            ("self", Some("SELF")),
            ("type", Some("TYPE")),
            ("_-.", None),
        ] {
            assert_eq!(constant(index).as_deref(), expected, "{index}");
        }
    }

    #[test]
    fn a_cache_is_suggested_in_snake_case() {
        assert_eq!(suggested_cache("UserAccount"), "user_account");
        assert_eq!(suggested_cache("r#Type"), "type");
    }
}
