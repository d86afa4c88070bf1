//! ASN.1 by the distinguished encoding rules (X.690): as much of it as certificates, keys and signatures need.
//!
//! Certificates and signatures are compared byte for byte, by the kernel, too. So what is read stays a part of what was
//! read, and is not decoded and encoded again.

/// Tags, with their class and the bit for what has elements in it.
pub mod tag {
    pub const BOOLEAN: u8 = 0x01;
    pub const INTEGER: u8 = 0x02;
    pub const BIT_STRING: u8 = 0x03;
    pub const OCTET_STRING: u8 = 0x04;
    pub const NULL: u8 = 0x05;
    pub const OID: u8 = 0x06;
    pub const UTC_TIME: u8 = 0x17;
    pub const GENERALIZED_TIME: u8 = 0x18;
    pub const SEQUENCE: u8 = 0x30;
    pub const SET: u8 = 0x31;

    /// `[n]`, constructed.
    pub const fn context(n: u8) -> u8 {
        0xa0 | n
    }

    /// `[n]` of something primitive, IMPLICIT.
    pub const fn implicit(n: u8) -> u8 {
        0x80 | n
    }
}

/// One element of what is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Element<'a> {
    pub tag: u8,
    pub content: &'a [u8],
    /// With tag and length.
    pub whole: &'a [u8],
}

impl<'a> Element<'a> {
    /// What is in it.
    pub fn inside(&self) -> Reader<'a> {
        Reader(self.content)
    }
}

/// Elements that follow each other.
#[derive(Clone, Copy, Debug)]
pub struct Reader<'a>(pub &'a [u8]);

impl<'a> Reader<'a> {
    /// The next one, which must have this tag.
    pub fn expect(&mut self, tag: u8) -> Option<Element<'a>> {
        self.optional(tag)
    }

    /// The next one, if it has this tag.
    pub fn optional(&mut self, tag: u8) -> Option<Element<'a>> {
        let mut rest = *self;
        let element = rest.next().filter(|element| element.tag == tag)?;
        *self = rest;
        Some(element)
    }
}

impl<'a> Iterator for Reader<'a> {
    type Item = Element<'a>;

    fn next(&mut self) -> Option<Element<'a>> {
        let (&[tag, first], rest) = self.0.split_first_chunk()?;
        let (len, rest) = match first {
            0..=0x7f => (usize::from(first), rest),
            // 0x80 is a length that is not known, which these rules do not have.
            0x81..=0x84 => {
                let (bytes, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
                (bytes.iter().fold(0, |len, byte| len << 8 | usize::from(*byte)), rest)
            }
            _ => return None,
        };
        let (content, after) = rest.split_at_checked(len)?;
        let whole = &self.0[..self.0.len() - after.len()];
        self.0 = after;
        Some(Element { tag, content, whole })
    }
}

/// An element of these parts.
pub fn element(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let content = parts.concat();
    let mut bytes = vec![tag];
    let len = content.len().to_be_bytes();
    let significant = &len[content.len().leading_zeros() as usize / 8..];
    match significant {
        [] | [0..=0x7f] => bytes.push(content.len() as u8),
        _ => {
            bytes.push(0x80 | significant.len() as u8);
            bytes.extend(significant);
        }
    }
    bytes.extend(content);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn lengths_are_as_short_as_can_be() {
        for (len, head) in [
            (0, &[4, 0][..]),
            (0x7f, &[4, 0x7f]),
            (0x80, &[4, 0x81, 0x80]),
            (0x1234, &[4, 0x82, 0x12, 0x34]),
            (0x10000, &[4, 0x83, 1, 0, 0]),
        ] {
            let bytes = element(tag::OCTET_STRING, &[&vec![7; len]]);
            assert!(bytes.starts_with(head), "{len}: {:?}", &bytes[..6.min(bytes.len())]);
            let mut reader = Reader(&bytes);
            assert_eq!(reader.expect(tag::SEQUENCE), None);
            let read = reader.expect(tag::OCTET_STRING).unwrap();
            assert_eq!((read.content.len(), read.whole), (len, &bytes[..]));
            assert_eq!(reader.next(), None);
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_end(bytes: Vec<u8>) {
            let reader = Reader(&bytes);
            let len: usize = reader.map(|element| element.whole.len()).sum();
            prop_assert!(len <= bytes.len());
        }
    }
}
