//! Samples: known bytes of a version, and their comparison with what a server sends now.

/// Bytes of a compared part.
pub(crate) const SAMPLE: u64 = 16 << 10;

/// Known bytes of a version: `bytes`, starting at offset `at`.
#[derive(Debug, Clone)]
pub struct Sample {
    /// Byte offset.
    pub at: u64,
    /// At most [`SAMPLE`] bytes.
    pub bytes: Vec<u8>,
}

/// The result of comparing the bytes that several responses share with each other and with known ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SamplesCompared {
    /// Bytes of the known version came again.
    Equal,
    /// The responses agree with each other, and no byte of the known version was there to compare.
    Alike,
    Differ,
    /// There were no bytes to compare.
    Unknown,
}

/// Compares the bytes that `parts` have in common with each other and with those of the known version.
pub(super) fn compare(known: &[Sample], parts: &[Sample]) -> SamplesCompared {
    let mut result = SamplesCompared::Unknown;
    for (index, part) in parts.iter().enumerate() {
        let others = known.iter().map(|sample| (sample, SamplesCompared::Equal));
        for (other, if_same) in others.chain(parts[index + 1..].iter().map(|other| (other, SamplesCompared::Alike))) {
            match part.is_same_where_both_are(other) {
                Some(false) => return SamplesCompared::Differ,
                Some(true) if result != SamplesCompared::Equal => result = if_same,
                _ => {}
            }
        }
    }
    result
}

impl Sample {
    /// Whether the bytes at the offsets that both have are the same. `None` if there are none.
    fn is_same_where_both_are(&self, other: &Sample) -> Option<bool> {
        let end = |part: &Sample| part.at + part.bytes.len() as u64;
        let (from, to) = (self.at.max(other.at), end(self).min(end(other)));
        // Within both parts.
        let cut = |part: &Sample| part.bytes[(from - part.at) as usize..(to - part.at) as usize].to_vec();
        (from < to).then(|| cut(self) == cut(other))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_compared_where_parts_overlap() {
        let part = |at: u64, bytes: &[u8]| Sample {
            at,
            bytes: bytes.to_vec(),
        };
        let (abc, cde, bd, def) = (part(0, b"abc"), part(2, b"cde"), part(1, b"bd"), part(3, b"def"));
        for (known, parts, result) in [
            (vec![], vec![], SamplesCompared::Unknown),
            (vec![abc.clone()], vec![], SamplesCompared::Unknown),
            (vec![abc.clone()], vec![def.clone()], SamplesCompared::Unknown),
            (vec![abc.clone()], vec![cde.clone()], SamplesCompared::Equal),
            (vec![abc.clone()], vec![bd.clone()], SamplesCompared::Differ),
            // What is known has no part in this.
            (vec![], vec![abc.clone(), cde.clone()], SamplesCompared::Alike),
            (
                vec![def.clone()],
                vec![abc.clone(), abc.clone()],
                SamplesCompared::Alike,
            ),
            (
                vec![def.clone(), cde.clone()],
                vec![abc.clone()],
                SamplesCompared::Equal,
            ),
            (vec![], vec![abc.clone(), bd.clone()], SamplesCompared::Differ),
            (
                vec![abc.clone()],
                vec![abc.clone(), abc.clone(), bd.clone()],
                SamplesCompared::Differ,
            ),
            (
                vec![abc.clone(), cde.clone()],
                vec![abc.clone(), def.clone(), def.clone()],
                SamplesCompared::Equal,
            ),
        ] {
            assert_eq!(compare(&known, &parts), result, "{known:?} {parts:?}");
        }
    }
}
