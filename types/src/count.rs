//! Numbers of things, as people say them.

/// Returns `1 layer`, `2 layers`: the number with the noun, which `one` says for one thing.
pub fn counted(count: impl TryInto<u64>, one: &str) -> String {
    let (one, many) = match one.strip_suffix('y') {
        Some(stem) if !stem.ends_with(['a', 'e', 'o', 'u']) => (one.to_owned(), format!("{stem}ies")),
        _ if one.ends_with('x') => (one.to_owned(), format!("{one}es")),
        _ => (one.to_owned(), format!("{one}s")),
    };
    match count.try_into() {
        Ok(1) => format!("1 {one}"),
        Ok(count) => format!("{count} {many}"),
        Err(_) => format!("many {many}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_thing_is_not_called_several() {
        assert_eq!(counted(0_usize, "layer"), "0 layers");
        assert_eq!(counted(1_u32, "prepared transaction"), "1 prepared transaction");
        assert_eq!(counted(2_u64, "repository"), "2 repositories");
        assert_eq!(counted(3_u64, "key"), "3 keys");
        assert_eq!(counted(4_u64, "index"), "4 indexes");
    }
}
