//! What caches and indexes may be called, and how an index becomes a variant.

/// Why this cannot be the name of a cache or an index.
pub(crate) fn complaint(name: &str) -> Option<String> {
    if name.is_empty() {
        return Some("the name is empty".to_owned());
    }
    let foreign = name.chars().find(|c| !c.is_ascii_alphanumeric() && !"_-.".contains(*c))?;
    Some(format!("{foreign:?} cannot be in a name; letters a to z and A to Z, digits, `_`, `-` and `.` can"))
}

/// The variant for an index, in camel case: `email-domain` becomes `EmailDomain`. None if there is nothing to call it by.
pub(crate) fn variant(index: &str) -> Option<String> {
    let mut variant = String::with_capacity(index.len());
    for word in index.split(['_', '-', '.']) {
        let mut letters = word.chars();
        variant.extend(letters.next().map(|first| first.to_ascii_uppercase()));
        variant.push_str(letters.as_str());
    }
    match variant.chars().next()? {
        first if first.is_ascii_digit() => Some(format!("_{variant}")),
        // The one keyword that is written like a variant.
        _ if variant == "Self" => Some("Self_".to_owned()),
        _ => Some(variant),
    }
}

/// A type's name as that of its cache: `UserAccount` becomes `user_account`.
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
    fn an_index_becomes_a_variant_in_camel_case() {
        for (index, expected) in [
            ("id", Some("Id")),
            ("email_domain", Some("EmailDomain")),
            ("tenant-slug.v2", Some("TenantSlugV2")),
            ("hostName", Some("HostName")),
            ("_x_", Some("X")),
            ("2fa", Some("_2fa")),
            ("self", Some("Self_")),
            ("type", Some("Type")),
            ("_-.", None),
        ] {
            assert_eq!(variant(index).as_deref(), expected, "{index}");
        }
    }

    #[test]
    fn a_cache_is_suggested_in_snake_case() {
        assert_eq!(suggested_cache("UserAccount"), "user_account");
        assert_eq!(suggested_cache("r#Type"), "type");
    }
}
