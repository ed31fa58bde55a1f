//! Keeps passwords out of `ps`.
//!
//! A URL on the command line may hold a password, or a signature in its query, and every user of the machine can read
//! the command line of every process, here for as long as the mount lives. So once they have been read they are
//! overwritten where the kernel looks for them: in the memory where it laid the arguments down (proc_pid_cmdline(5)).
//! It is the well-known trick of curl and MySQL's client; what remains is the moment before.

use std::ops::Range;

use url::Url;

/// Stands for each byte of a secret.
const BLANK: u8 = b'*';

/// Overwrites the secrets of these URLs in this process's command line. To be called while there is one thread.
pub(super) fn hide_secrets(urls: &[Url]) {
    let has_none = |url: &Url| url.username().is_empty() && url.password().is_none() && url.query().is_none();
    if urls.iter().all(has_none) {
        return;
    }
    let Some(range) = std::fs::read_to_string("/proc/self/stat")
        .ok()
        .and_then(|stat| arguments(&stat))
    else {
        return;
    };
    // SAFETY: the kernel says that this process's arguments are there: writable memory of our own stack, mapped for its
    // whole life. Nobody else uses it: there is one thread, and the standard library copies an argument when it is
    // asked for.
    let line = unsafe { std::slice::from_raw_parts_mut(range.start as *mut u8, range.len()) };
    blank(line);
}

/// Where the arguments lie, from `/proc/self/stat`: its fields 48 and 49 (proc_pid_stat(5)), `arg_start` and `arg_end`.
/// They are zero where the kernel keeps them to itself.
fn arguments(stat: &str) -> Option<Range<usize>> {
    // The second field is the command's name in parentheses, and may hold anything.
    let third = stat.rsplit_once(')')?.1;
    let mut fields = third.split_ascii_whitespace().skip(48 - 3);
    let (start, end) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    (start != 0 && start < end).then_some(start..end)
}

/// Overwrites, in each argument that is a URL, what stands between `://` and the last `@` before the path, and the
/// values of the query.
fn blank(line: &mut [u8]) {
    for argument in line.split_mut(|&b| b == 0) {
        let Some(start) = argument.windows(3).position(|bytes| bytes == b"://").map(|at| at + 3) else {
            continue;
        };
        let rest = &mut argument[start..];
        let end = rest.iter().position(|b| b"/?#".contains(b)).unwrap_or(rest.len());
        if let Some(at) = rest[..end].iter().rposition(|&b| b == b'@') {
            rest[..at].fill(BLANK);
        }
        let query = rest.iter().position(|&b| b == b'?').unwrap_or(rest.len());
        for pair in rest[query..].split_mut(|&b| b == b'&') {
            if let Some(at) = pair.iter().position(|&b| b == b'=') {
                pair[at + 1..].fill(BLANK);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_secrets_are_overwritten() {
        let mut line = b"fetchfs\0mount\0-v\0https://ann:p@ss@host/a@b\0http://host/x@y?k=v&f\0/m=n\0".to_vec();
        blank(&mut line);
        assert_eq!(
            line,
            b"fetchfs\0mount\0-v\0https://********@host/a@b\0http://host/x@y?k=*&f\0/m=n\0"
        );
    }

    #[test]
    fn the_kernel_tells_where_the_arguments_are() {
        let range = arguments(&std::fs::read_to_string("/proc/self/stat").unwrap()).unwrap();
        let line = std::fs::read("/proc/self/cmdline").unwrap();
        assert_eq!(range.len(), line.len());
        assert_eq!(arguments("1 (a) b) S 0"), None);
    }
}
