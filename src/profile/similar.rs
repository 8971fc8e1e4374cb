//! Which of many names a misspelt one was probably meant to be.

/// The names nearest to a text, in their alphabet: those that it is a part of (`pread` of `pread64`), or else those that
/// are the fewest edits away, if these are few for its length. Each costs time in proportion to the length of both.
pub(super) fn similar<'n>(text: &str, names: impl Iterator<Item = &'n str>) -> Vec<&'n str> {
    let length = text.chars().count();
    let most = (length / 3).clamp(1, 3);
    let mut near: Vec<_> = names
        .filter_map(|name| {
            let surplus = name.len().checked_sub(text.len());
            let is_part = length >= 4 && surplus.is_some_and(|surplus| surplus <= 3);
            if is_part && (name.starts_with(text) || name.ends_with(text)) {
                return Some((0, name));
            }
            if name.len().abs_diff(length) > most {
                return None;
            }
            let edits = distance(text, name);
            (edits <= most && edits < length).then_some((edits, name))
        })
        .collect();
    near.sort_unstable();
    let closest = near.first().map_or(0, |(edits, _)| *edits);
    near.into_iter()
        .take_while(|(edits, _)| *edits == closest)
        .map(|(_, name)| name)
        .collect()
}

/// The question about them; `None` where there is none to ask.
pub(super) fn did_you_mean(names: &[&str]) -> Option<String> {
    match names {
        [] => None,
        [only] => Some(format!("did you mean {only}?")),
        [nearer @ .., last] => Some(format!("did you mean {} or {last}?", nearer.join(", "))),
    }
}

/// Edits from one text to another, where two neighbours that changed places are one edit (optimal string
/// alignment).
fn distance(one: &str, other: &str) -> usize {
    let one: Vec<char> = one.chars().collect();
    let other: Vec<char> = other.chars().collect();
    let mut second = vec![0; other.len() + 1];
    let mut above: Vec<usize> = (0..=other.len()).collect();
    for i in 0..one.len() {
        let mut row = vec![i + 1];
        for j in 0..other.len() {
            let replaced = above[j] + usize::from(one[i] != other[j]);
            let mut least = replaced.min(row[j] + 1).min(above[j + 1] + 1);
            if i > 0 && j > 0 && one[i] == other[j - 1] && one[i - 1] == other[j] {
                least = least.min(second[j - 1] + 1);
            }
            row.push(least);
        }
        second = std::mem::replace(&mut above, row);
    }
    above[other.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_are_asked_for_and_no_others() {
        let near = |text| similar(text, ["newer-flag", "newer-syscall", "no-effect"].into_iter());
        assert_eq!(near("newer-flags"), ["newer-flag"]);
        assert_eq!(near("new-syscall"), ["newer-syscall"]);
        assert_eq!(near("frobnicate"), [""; 0]);
        assert_eq!(did_you_mean(&[]), None);
        assert_eq!(did_you_mean(&["a"]).as_deref(), Some("did you mean a?"));
        assert_eq!(
            did_you_mean(&["a", "b", "c"]).as_deref(),
            Some("did you mean a, b or c?")
        );
    }

    #[test]
    fn swapped_neighbours_are_one_edit() {
        for (one, other, edits) in [
            ("opne", "open", 1),
            ("open", "open", 0),
            ("", "abc", 3),
            ("abc", "", 3),
            ("kitten", "sitting", 3),
            ("ca", "abc", 3),
        ] {
            assert_eq!(distance(one, other), edits, "{one} {other}");
        }
    }
}
