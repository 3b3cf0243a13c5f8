//! "Did you mean": the known name that is nearest to a mistyped one.

/// Whether a word of the command line looks like a name. Other words may be secrets, so messages do
/// not repeat them.
pub fn is_plain(word: &str) -> bool {
    word.len() <= 20 && word.bytes().all(|b| b.is_ascii_lowercase() || b == b'-')
}

/// The name that differs least, unless it differs too much to be what the user meant.
pub fn nearest<'n>(word: &str, names: impl Iterator<Item = &'n str>) -> Option<&'n str> {
    let (distance, name) = names.map(|name| (distance(word, name), name)).min()?;
    let max_distance = 1 + word.len() / 3;
    (distance <= max_distance).then_some(name)
}

/// The optimal string alignment distance: Levenshtein's, but two neighbours that changed places
/// count as one mistake.
pub fn distance(a: &str, b: &str) -> usize {
    let a = a.as_bytes();
    let b = b.as_bytes();
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
    fn the_nearest_name_must_be_near_enough() {
        let near = |word| nearest(word, ["get", "exec", "status"].into_iter());
        assert_eq!(near("gte"), Some("get"));
        assert_eq!(near("stauts"), Some("status"));
        assert_eq!(nearest("wrok", ["prod", "work"].into_iter()), Some("work"));
        assert_eq!(near("psql"), None);
        assert_eq!(near(""), None);
    }
}
