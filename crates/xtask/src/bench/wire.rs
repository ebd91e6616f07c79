//! The few Kafka messages the harness itself speaks: topics, one produce and one fetch, for timing a start to the
//! millisecond and for setting up both servers in the same way. Only versions without flexible fields.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

const TIMEOUT: Duration = Duration::from_secs(60);
const LARGEST_RESPONSE: usize = 64 << 20;

pub const TOPIC_ALREADY_EXISTS: i16 = 36;
pub const INVALID_CONFIG: i16 = 40;

pub struct Client {
    stream: TcpStream,
    correlation: i32,
}

#[derive(Default)]
struct Writer(Vec<u8>);

impl Writer {
    fn i8(mut self, value: i8) -> Self {
        self.0.push(value as u8);
        self
    }
    fn i16(mut self, value: i16) -> Self {
        self.0.extend(value.to_be_bytes());
        self
    }
    fn i32(mut self, value: i32) -> Self {
        self.0.extend(value.to_be_bytes());
        self
    }
    fn i64(mut self, value: i64) -> Self {
        self.0.extend(value.to_be_bytes());
        self
    }
    fn string(mut self, value: &str) -> Self {
        self.0.extend((value.len() as i16).to_be_bytes());
        self.0.extend(value.as_bytes());
        self
    }
    fn bytes(mut self, value: &[u8]) -> Self {
        self.0.extend((value.len() as i32).to_be_bytes());
        self.0.extend(value);
        self
    }
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Result<&'a [u8]> {
        ensure!(length <= self.0.len(), "a response ends {} bytes early", length - self.0.len());
        let (taken, rest) = self.0.split_at(length);
        self.0 = rest;
        Ok(taken)
    }
    fn i16(&mut self) -> Result<i16> {
        Ok(i16::from_be_bytes(self.take(2)?.try_into()?))
    }
    fn i32(&mut self) -> Result<i32> {
        Ok(i32::from_be_bytes(self.take(4)?.try_into()?))
    }
    fn i64(&mut self) -> Result<i64> {
        Ok(i64::from_be_bytes(self.take(8)?.try_into()?))
    }
    fn string(&mut self) -> Result<String> {
        let length = self.i16()?;
        Ok(String::from_utf8_lossy(self.take(usize::try_from(length).unwrap_or(0))?).into_owned())
    }
}

impl Client {
    pub fn connect(bootstrap: &str) -> Result<Self> {
        let stream = TcpStream::connect(bootstrap).with_context(|| format!("connecting to {bootstrap}"))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        Ok(Self { stream, correlation: 0 })
    }

    fn call(&mut self, api: i16, version: i16, body: Writer) -> Result<Vec<u8>> {
        self.correlation += 1;
        let header = Writer::default().i16(api).i16(version).i32(self.correlation).string("headwater-bench");
        let mut frame = Writer::default().i32((header.0.len() + body.0.len()) as i32).0;
        frame.extend(header.0);
        frame.extend(body.0);
        self.stream.write_all(&frame)?;
        let mut length = [0; 4];
        self.stream.read_exact(&mut length)?;
        let length = u32::from_be_bytes(length) as usize;
        ensure!((4..=LARGEST_RESPONSE).contains(&length), "a response of {length} bytes");
        let mut response = vec![0; length];
        self.stream.read_exact(&mut response)?;
        ensure!(response[..4] == self.correlation.to_be_bytes(), "a response to another request");
        Ok(response.split_off(4))
    }

    /// CreateTopics v4: the error code and the server's own words for it.
    pub fn create_topic(
        &mut self,
        name: &str,
        partitions: i32,
        configs: &[(&str, &str)],
    ) -> Result<(i16, String)> {
        let mut body = Writer::default().i32(1).string(name).i32(partitions).i16(1).i32(0);
        body = body.i32(configs.len() as i32);
        for (key, value) in configs {
            body = body.string(key).string(value);
        }
        let response = self.call(19, 4, body.i32(60_000).i8(0))?;
        let mut reader = Reader(&response);
        let (_throttle, _count, _name) = (reader.i32()?, reader.i32()?, reader.string()?);
        Ok((reader.i16()?, reader.string()?))
    }

    /// DeleteTopics v3.
    pub fn delete_topic(&mut self, name: &str) -> Result<i16> {
        let response = self.call(20, 3, Writer::default().i32(1).string(name).i32(60_000))?;
        let mut reader = Reader(&response);
        let (_throttle, _count, _name) = (reader.i32()?, reader.i32()?, reader.string()?);
        reader.i16()
    }

    /// OffsetFetch v5: the sum of a group's committed offsets in a topic's first partitions; what is not committed counts
    /// nothing.
    pub fn committed(&mut self, group: &str, topic: &str, partitions: u32) -> Result<u64> {
        let mut body = Writer::default().string(group).i32(1).string(topic).i32(partitions as i32);
        for partition in 0..partitions {
            body = body.i32(partition as i32);
        }
        committed_sum(&self.call(9, 5, body)?)
    }

    /// Produce v7 of one record: the error code and its offset.
    pub fn produce(&mut self, topic: &str, partition: i32, value: &[u8]) -> Result<(i16, i64)> {
        let records = batch_of(value);
        let body = Writer::default().i16(-1).i16(-1).i32(30_000).i32(1).string(topic).i32(1).i32(partition);
        let response = self.call(0, 7, body.bytes(&records))?;
        let mut reader = Reader(&response);
        let (_topics, _name, _partitions, _index) =
            (reader.i32()?, reader.string()?, reader.i32()?, reader.i32()?);
        Ok((reader.i16()?, reader.i64()?))
    }

    /// Fetch v4 of one partition from `offset`: the error code and how many bytes came.
    pub fn fetch(&mut self, topic: &str, partition: i32, offset: i64) -> Result<(i16, usize)> {
        let body = Writer::default().i32(-1).i32(500).i32(1).i32(1 << 20).i8(0).i32(1).string(topic);
        let response = self.call(1, 4, body.i32(1).i32(partition).i64(offset).i32(1 << 20))?;
        let mut reader = Reader(&response);
        let (_throttle, topics) = (reader.i32()?, reader.i32()?);
        if topics != 1 {
            bail!("a fetch of one topic answered {topics}");
        }
        let (_name, _partitions, _index) = (reader.string()?, reader.i32()?, reader.i32()?);
        let (error, _high_watermark, _stable) = (reader.i16()?, reader.i64()?, reader.i64()?);
        let aborted = reader.i32()?.max(0) as usize;
        reader.take(aborted * 16)?;
        Ok((error, reader.i32()?.max(0) as usize))
    }
}

fn committed_sum(response: &[u8]) -> Result<u64> {
    let mut reader = Reader(response);
    let (_throttle, topics) = (reader.i32()?, reader.i32()?);
    let mut sum = 0;
    for _ in 0..topics {
        let (_name, partitions) = (reader.string()?, reader.i32()?);
        for _ in 0..partitions {
            let (_index, offset, _epoch, _metadata) =
                (reader.i32()?, reader.i64()?, reader.i32()?, reader.string()?);
            let error = reader.i16()?;
            ensure!(error == 0, "the committed offset of a partition: error {error}");
            sum += u64::try_from(offset).unwrap_or(0);
        }
    }
    let error = reader.i16()?;
    ensure!(error == 0, "the committed offsets of a group: error {error}");
    Ok(sum)
}

/// A record batch v2 that holds one record without a key.
fn batch_of(value: &[u8]) -> Vec<u8> {
    let mut record = vec![0, 0, 0, 1];
    varint(&mut record, value.len() as i64);
    record.extend(value);
    record.push(0);
    let mut records = Vec::new();
    varint(&mut records, record.len() as i64);
    records.extend(record);
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let now = now.map_or(0, |since| since.as_millis() as i64);
    let checked = Writer::default().i16(0).i32(0).i64(now).i64(now).i64(-1).i16(-1).i32(-1).i32(1);
    let mut checked = checked.0;
    checked.extend(records);
    let batch = Writer::default().i64(0).i32(9 + checked.len() as i32).i32(-1).i8(2);
    let mut batch = batch.i32(crc32c(&checked) as i32).0;
    batch.extend(checked);
    batch
}

fn varint(out: &mut Vec<u8>, value: i64) {
    let mut zigzag = ((value << 1) ^ (value >> 63)) as u64;
    while zigzag >= 0x80 {
        out.push(zigzag as u8 | 0x80);
        zigzag >>= 7;
    }
    out.push(zigzag as u8);
}

fn crc32c(bytes: &[u8]) -> u32 {
    let mut crc = !0u32;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 { crc >> 1 ^ 0x82f6_3b78 } else { crc >> 1 };
        }
    }
    !crc
}

#[cfg(test)]
mod tests {
    use super::{Writer, committed_sum};

    #[test]
    fn committed_offsets_are_added_and_errors_are_told() {
        let answer = |second: i64, error: i16| {
            let one = Writer::default().i32(0).i32(1).string("in").i32(2);
            let one = one.i32(0).i64(40).i32(-1).string("hw3;…").i16(0);
            one.i32(1).i64(second).i32(-1).string("").i16(error).i16(0).0
        };
        assert_eq!(committed_sum(&answer(2, 0)).unwrap(), 42);
        assert_eq!(committed_sum(&answer(-1, 0)).unwrap(), 40);
        assert!(committed_sum(&answer(2, 3)).unwrap_err().to_string().contains("error 3"));
        assert!(committed_sum(&answer(2, 0)[..30]).is_err());
    }

    #[test]
    fn the_checksum_is_castagnolis() {
        assert_eq!(super::crc32c(b"123456789"), 0xe306_9283);
    }
}
