//! "Did you mean": the known name that a mistyped one is nearest to.

/// Whether a word of the command line looks like a name, so that it may be repeated.
pub fn is_plain(word: &str) -> bool {
    word.len() <= 20 && word.bytes().all(|b| b.is_ascii_lowercase() || b == b'-')
}

/// The name that differs least, unless it differs too much to be meant.
pub fn nearest<'n>(word: &str, names: impl Iterator<Item = &'n str>) -> Option<&'n str> {
    let best = names.map(|name| (distance(word, name), name)).min()?;
    (best.0 <= 1 + word.len() / 3).then_some(best.1)
}

/// Levenshtein's, with two neighbours exchanged as one mistake.
fn distance(a: &str, b: &str) -> usize {
    let (a, b) = (a.as_bytes(), b.as_bytes());
    let mut rows = vec![vec![0; b.len() + 1]; a.len() + 1];
    for i in 0..=a.len() {
        for j in 0..=b.len() {
            rows[i][j] = if i == 0 || j == 0 {
                i + j
            } else {
                let change = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
                let crossed = i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1];
                let exchange = if crossed { rows[i - 2][j - 2] + 1 } else { change };
                change.min(exchange).min(rows[i - 1][j] + 1).min(rows[i][j - 1] + 1)
            };
        }
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_is_one_that_could_be_meant() {
        let near = |word| nearest(word, ["get", "exec", "status"].into_iter());
        assert_eq!(near("gte"), Some("get"));
        assert_eq!(near("stauts"), Some("status"));
        assert_eq!(nearest("wrok", ["prod", "work"].into_iter()), Some("work"));
        assert_eq!(near("psql"), None);
        assert_eq!(near(""), None);
    }
}
