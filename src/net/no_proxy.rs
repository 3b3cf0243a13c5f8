//! `NO_PROXY`: the hosts that are reached without a proxy.

/// Whether a `NO_PROXY` list names this host, as curl and Go read it: `*`, a host, or a domain with
/// all hosts below it. A port is ignored.
pub fn covers(list: &str, host: &str) -> bool {
    let host = host.to_ascii_lowercase();
    list.split(',').map(str::trim).any(|entry| entry_covers(entry, &host))
}

fn entry_covers(entry: &str, host: &str) -> bool {
    if entry.is_empty() {
        return false;
    }
    let name = entry.rsplit_once(':').map_or(entry, |(name, _port)| name);
    if name == "*" {
        return true;
    }

    let domain = name.trim_start_matches("*.").trim_start_matches('.').to_ascii_lowercase();
    let is_below = || host.strip_suffix(&domain).is_some_and(|rest| rest.ends_with('.'));
    host == domain || is_below()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_covers_a_domain_and_the_hosts_below_it() {
        for (list, host, expected) in [
            ("example.com", "example.com", true),
            ("example.com", "a.example.com", true),
            (".example.com", "a.example.com", true),
            ("*.example.com", "a.EXAMPLE.com", true),
            ("example.com:443", "a.example.com", true),
            ("example.com", "badexample.com", false),
            ("a, b ,*", "anything", true),
            ("", "anything", false),
        ] {
            assert_eq!(covers(list, host), expected, "{list} {host}");
        }
    }
}
