//! What must not be shown.

/// `url` with its password, if it has one, replaced by `***`: before the host, or as `password` in the query.
///
/// ```
/// use longshore::domain::masked_url;
///
/// assert_eq!(masked_url("postgres://me:hunter2@db/x"), "postgres://me:***@db/x");
/// assert_eq!(masked_url("sqlite:tasks.db"), "sqlite:tasks.db");
/// ```
pub fn masked_url(url: &str) -> String {
    mask_query(&mask_authority(url))
}

fn mask_authority(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else {
        return url.to_owned();
    };
    let authority_end = rest.find(['/', '?']).unwrap_or(rest.len());
    // A password may hold `/` or `@` when it was not encoded: the last `@` ends it.
    let Some(at) = rest
        .rfind('@')
        .filter(|at| *at < authority_end || rest[..*at].contains(':'))
    else {
        return url.to_owned();
    };
    match rest[..at].split_once(':') {
        Some((user, _)) => format!("{scheme}://{user}:***{}", &rest[at..]),
        None => url.to_owned(),
    }
}

fn mask_query(url: &str) -> String {
    let Some((before, query)) = url.split_once('?') else {
        return url.to_owned();
    };
    let masked = query.split('&').map(|pair| match pair.split_once('=') {
        Some((name, _)) if name.eq_ignore_ascii_case("password") => format!("{name}=***"),
        _ => pair.to_owned(),
    });
    format!("{before}?{}", masked.collect::<Vec<_>>().join("&"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_never_shown_not_even_an_odd_one() {
        assert_eq!(
            masked_url("amqp://u:p@h:5672/%2f"),
            "amqp://u:***@h:5672/%2f"
        );
        assert_eq!(masked_url("amqp://u:a/b@c@h/v"), "amqp://u:***@h/v");
        assert_eq!(masked_url("amqp://h/v"), "amqp://h/v");
        assert_eq!(masked_url("amqp://u@h/v"), "amqp://u@h/v");
        assert_eq!(
            masked_url("postgres:///db?user=u&password=p&host=/run"),
            "postgres:///db?user=u&password=***&host=/run"
        );
    }
}
