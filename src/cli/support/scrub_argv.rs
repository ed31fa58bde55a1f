//! Keeps passwords out of `ps`.
//!
//! A URL on the command line may hold a password, or a signature in its query, and an option may be a token. Every
//! user of the machine can read the command line of every process, for as long as the mount lives. So after parsing,
//! secrets are overwritten in the memory where the kernel placed the arguments (proc_pid_cmdline(5)). curl and
//! MySQL's client do the same. Only the moment before remains.

use std::ops::Range;

use procfs::process::Process;

use crate::config::SECRETS;

/// Replaces each byte of a secret.
const BLANK: u8 = b'*';

/// Overwrites the secrets in this process's command line. The process must have one thread.
pub(in crate::cli) fn hide_secrets() {
    let Some(range) = arguments() else {
        return;
    };
    // SAFETY: the kernel says that this process's arguments are there: writable memory of our own stack, mapped for
    // the whole life of the process. No other code uses it: there is one thread, and the standard library copies an
    // argument when it is read.
    let line = unsafe { std::slice::from_raw_parts_mut(range.start as *mut u8, range.len()) };
    blank(line);
}

/// The address range of this process's arguments. `None` if the kernel does not give it.
fn arguments() -> Option<Range<usize>> {
    let stat = Process::myself().ok()?.stat().ok()?;
    let (start, end) = (stat.arg_start?.try_into().ok()?, stat.arg_end?.try_into().ok()?);
    (start != 0 && start < end).then_some(start..end)
}

/// Overwrites the secrets in arguments that are each terminated by a zero byte.
fn blank(line: &mut [u8]) {
    let mut is_secret_value = false;
    for argument in line.split_mut(|&b| b == 0) {
        if std::mem::take(&mut is_secret_value) {
            argument.fill(BLANK);
            continue;
        }
        let prefixes = [b"--options=".as_slice(), b"-o"];
        let prefix = prefixes.into_iter().find(|prefix| argument.starts_with(prefix));
        if prefix.is_none() && argument.starts_with(b"--") {
            is_secret_value = is_secret(&argument[2..]);
            blank_secret_value(&mut argument[2..]);
        } else {
            blank_options(&mut argument[prefix.map_or(0, <[u8]>::len)..]);
        }
        blank_url(argument);
    }
}

fn is_secret(name: &[u8]) -> bool {
    let name: Vec<u8> = name.iter().map(|&b| if b == b'_' { b'-' } else { b }).collect();
    SECRETS.iter().any(|secret| secret.as_bytes() == name)
}

/// Overwrites the value in `name=value` if it is a secret.
fn blank_secret_value(option: &mut [u8]) {
    if let Some(at) = option.iter().position(|&b| b == b'=')
        && is_secret(&option[..at])
    {
        option[at + 1..].fill(BLANK);
    }
}

/// Overwrites the secret values in `a,b=c,d=e`. A comma after a backslash ends no value.
fn blank_options(options: &mut [u8]) {
    let mut start = 0;
    while start < options.len() {
        let mut end = start;
        while end < options.len() && options[end] != b',' {
            end += if options[end] == b'\\' { 2 } else { 1 };
        }
        let end = end.min(options.len());
        blank_secret_value(&mut options[start..end]);
        start = end + 1;
    }
}

/// Overwrites the text between `://` and the last `@` before the path, and the values of the query.
fn blank_url(argument: &mut [u8]) {
    let Some(start) = argument.windows(3).position(|bytes| bytes == b"://").map(|at| at + 3) else {
        return;
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
    fn secret_option_values_are_overwritten() {
        let cases: [(&[u8], &[u8]); 8] = [
            (b"--login\0a:b\0/m", b"--login\0***\0/m"),
            (b"--header=X: a,b=c\0-f", b"--header=********\0-f"),
            (b"--bearer_token=t", b"--bearer_token=*"),
            (b"-o\0ro,login=a\\,b,uid=1", b"-o\0ro,login=****,uid=1"),
            (b"-obearer_token=t,ro", b"-obearer_token=*,ro"),
            (
                b"--options=bearer_token_command=ab",
                b"--options=bearer_token_command=**",
            ),
            (b"--proxy\0http://u:p@h:1", b"--proxy\0http://***@h:1"),
            (
                b"--login-file=x\0loginx=y\0/login=",
                b"--login-file=x\0loginx=y\0/login=",
            ),
        ];
        for (typed, shown) in cases {
            let mut line = typed.to_vec();
            blank(&mut line);
            assert_eq!(line, shown, "{}", String::from_utf8_lossy(typed));
        }
    }

    #[test]
    fn argument_memory_is_located() {
        let range = arguments().unwrap();
        let line = std::fs::read("/proc/self/cmdline").unwrap();
        assert_eq!(range.len(), line.len());
    }
}
