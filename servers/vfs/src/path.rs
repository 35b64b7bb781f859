//! Paths as bytes.

use alloc::vec::Vec;

use libipc::proto::vfs::{FsError, MAX_NAME_BYTES, MAX_PATH_BYTES};

/// Checks an absolute path and returns its components. Repeated slashes count once; a slash at
/// the end asks for a directory and becomes a `.`.
pub(crate) fn components(path: &[u8]) -> Result<Vec<&[u8]>, FsError> {
    if path.first() != Some(&b'/') || path.contains(&0) {
        return Err(FsError::Invalid);
    }
    if path.len() > MAX_PATH_BYTES {
        return Err(FsError::NameTooLong);
    }
    split(path)
}

/// Returns the components of the target of a symbolic link.
pub(crate) fn split(path: &[u8]) -> Result<Vec<&[u8]>, FsError> {
    let mut components: Vec<&[u8]> = Vec::new();
    for component in path.split(|byte| *byte == b'/') {
        if component.len() > MAX_NAME_BYTES {
            return Err(FsError::NameTooLong);
        }
        if !component.is_empty() {
            components.push(component);
        }
    }
    if path.last() == Some(&b'/') && !components.is_empty() {
        components.push(b".");
    }
    Ok(components)
}

/// Joins components into an absolute path.
pub(crate) fn join<'a>(components: impl IntoIterator<Item = &'a [u8]>) -> Vec<u8> {
    let mut path = Vec::new();
    for component in components {
        path.push(b'/');
        path.extend_from_slice(component);
    }
    if path.is_empty() {
        path.push(b'/');
    }
    path
}

/// Returns the first component of `path` below `directory`, both canonical; `None` when it does
/// not lie below it.
pub(crate) fn child_of<'a>(directory: &[u8], path: &'a [u8]) -> Option<&'a [u8]> {
    let rest = match directory {
        b"/" => path.strip_prefix(b"/")?,
        _ => path.strip_prefix(directory)?.strip_prefix(b"/")?,
    };
    rest.split(|byte| *byte == b'/')
        .next()
        .filter(|name| !name.is_empty())
}

#[cfg(test)]
mod tests {
    use libipc::proto::vfs::{FsError, MAX_NAME_BYTES, MAX_PATH_BYTES};

    use super::{child_of, components, join};

    #[test]
    fn paths_are_split_and_joined() {
        assert_eq!(components(b"/").unwrap(), [b""; 0]);
        assert_eq!(components(b"///").unwrap(), [b""; 0]);
        assert_eq!(components(b"/a//b").unwrap(), [b"a", b"b"]);
        assert_eq!(
            components(b"/a/./../b/").unwrap(),
            [b"a".as_slice(), b".", b"..", b"b", b"."]
        );
        assert_eq!(components("/ü".as_bytes()).unwrap(), ["ü".as_bytes()]);
        assert_eq!(join([]), b"/");
        assert_eq!(join([b"a".as_slice(), b"bc"]), b"/a/bc");
    }

    #[test]
    fn bad_paths_are_refused() {
        assert_eq!(components(b""), Err(FsError::Invalid));
        assert_eq!(components(b"a"), Err(FsError::Invalid));
        assert_eq!(components(b"/a\0"), Err(FsError::Invalid));
        let long = [b"/".as_slice(), &[b'x'; MAX_NAME_BYTES + 1]].concat();
        assert_eq!(components(&long), Err(FsError::NameTooLong));
        assert_eq!(components(&long[..=MAX_NAME_BYTES]).unwrap().len(), 1);
        let deep = b"/a".repeat(MAX_PATH_BYTES / 2 + 1);
        assert_eq!(components(&deep), Err(FsError::NameTooLong));
    }

    #[test]
    fn children_are_found_by_whole_names() {
        assert_eq!(child_of(b"/", b"/tmp"), Some(b"tmp".as_slice()));
        assert_eq!(child_of(b"/", b"/mnt/disk"), Some(b"mnt".as_slice()));
        assert_eq!(child_of(b"/mnt", b"/mnt/disk"), Some(b"disk".as_slice()));
        assert_eq!(child_of(b"/mn", b"/mnt/disk"), None);
        assert_eq!(child_of(b"/mnt", b"/mnt"), None);
        assert_eq!(child_of(b"/", b"/"), None);
    }
}
