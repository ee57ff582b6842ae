//! Lines of bounded length.

use std::io::{self, BufRead, Read};

/// An entry's content is at most so long.
pub(crate) const CONTENT_BYTES_MAX: usize = 64 * 1024;

/// A line is at most so long: an entry's content and its hash, with the JSON around them.
pub(crate) const LINE_BYTES_MAX: usize = CONTENT_BYTES_MAX + 128;

/// What the reader has next.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// A line, in the buffer, without its end.
    Line,
    /// A line that is too long, or that ends without a line feed.
    Bad(&'static str),
    /// Nothing more.
    End,
}

/// Reads one line into the buffer, and never more than a line may have.
pub(crate) fn read(reader: &mut impl BufRead, buffer: &mut Vec<u8>) -> io::Result<Next> {
    buffer.clear();
    let limit = LINE_BYTES_MAX as u64 + 1;
    reader.by_ref().take(limit).read_until(b'\n', buffer)?;
    if buffer.is_empty() {
        return Ok(Next::End);
    }
    if buffer.pop() == Some(b'\n') {
        return Ok(Next::Line);
    }
    let is_long = buffer.len() >= LINE_BYTES_MAX;
    Ok(Next::Bad(if is_long { "the line is too long" } else { "the line does not end" }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_read_no_further_than_a_line_may_be_long() {
        let mut buffer = Vec::new();
        let mut endless = io::BufReader::new(io::repeat(b'x'));
        assert_eq!(read(&mut endless, &mut buffer).unwrap(), Next::Bad("the line is too long"));
        let longest = [vec![b'x'; LINE_BYTES_MAX], b"\nab".to_vec()].concat();
        let mut rest = longest.as_slice();
        assert_eq!(read(&mut rest, &mut buffer).unwrap(), Next::Line);
        assert_eq!(read(&mut rest, &mut buffer).unwrap(), Next::Bad("the line does not end"));
        assert_eq!(read(&mut rest, &mut buffer).unwrap(), Next::End);
    }
}
