//! Frames: a length of four bytes, and so many more.

use std::io;

use headwater_wire::ApiKey;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

const LONGEST: usize = 256 << 20;

/// A frame with its length.
pub async fn read(from: &mut (impl AsyncRead + Unpin)) -> io::Result<Vec<u8>> {
    let mut length = [0; 4];
    from.read_exact(&mut length).await?;
    let count = usize::try_from(i32::from_be_bytes(length)).ok().filter(|count| *count <= LONGEST);
    let count = count.ok_or_else(|| io::Error::other("an impossible frame length"))?;
    let mut frame = vec![0; 4 + count];
    frame[..4].copy_from_slice(&length);
    from.read_exact(&mut frame[4..]).await?;
    Ok(frame)
}

pub async fn write(into: &mut (impl AsyncWrite + Unpin), frame: &[u8]) -> io::Result<()> {
    into.write_all(frame).await
}

/// API key and version of a request.
pub fn api(frame: &[u8]) -> Option<(i16, i16)> {
    let bytes = frame.get(4..8)?;
    Some((i16::from_be_bytes([bytes[0], bytes[1]]), i16::from_be_bytes([bytes[2], bytes[3]])))
}

/// Whether this Produce asks for no answer (`acks=0`): its connection has no response to wait for.
pub fn wants_no_answer(frame: &[u8]) -> bool {
    let Some((key, version)) = api(frame) else { return false };
    if key != ApiKey::Produce as i16 {
        return false;
    }
    acks(frame, version) == Some(0)
}

fn acks(frame: &[u8], version: i16) -> Option<i16> {
    let short = |at: usize| Some(i16::from_be_bytes([*frame.get(at)?, *frame.get(at + 1)?]));
    // Behind the length: key, version, correlation id, client id, and a tag count in flexible versions.
    let client_id = usize::try_from(short(12)?).unwrap_or(0);
    let mut at = 14 + client_id;
    if version >= 9 {
        // A varint, of one byte where transactional ids are short.
        at += 1;
        let length = usize::from(*frame.get(at)?);
        at += 1 + length.saturating_sub(1);
    } else if version >= 3 {
        at += 2 + usize::try_from(short(at)?).unwrap_or(0);
    }
    short(at)
}

/// Which APIs something happens to.
#[derive(Debug, Clone, Default)]
pub struct Keys(Vec<i16>);

impl Keys {
    pub fn of(keys: &[ApiKey]) -> Self {
        Self(keys.iter().map(|key| *key as i16).collect())
    }

    pub fn has(&self, key: i16) -> bool {
        self.0.contains(&key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A Produce of version 9 with this transactional id.
    fn produce(version: i16, id: &[u8], acks: i16) -> Vec<u8> {
        let mut body = vec![0, 0];
        body.extend(version.to_be_bytes());
        body.extend([0, 0, 0, 7, 0, 2, b'm', b'e']);
        if version >= 9 {
            body.extend([0, id.len() as u8 + 1]);
        } else {
            body.extend((id.len() as i16).to_be_bytes());
        }
        body.extend(id);
        body.extend(acks.to_be_bytes());
        let mut frame = (body.len() as i32).to_be_bytes().to_vec();
        frame.extend(body);
        frame
    }

    #[test]
    fn a_produce_without_an_answer_is_known() {
        for version in [3, 8, 9, 12] {
            for id in [&b""[..], b"id"] {
                assert!(wants_no_answer(&produce(version, id, 0)), "{version} {id:?}");
                assert!(!wants_no_answer(&produce(version, id, -1)), "{version} {id:?}");
            }
        }
        assert!(!wants_no_answer(&[0, 0, 0, 2, 0, 0]));
    }
}
