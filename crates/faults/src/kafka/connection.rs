//! Frames over one socket; requests may be sent ahead of their answers.

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use headwater_wire::messages::*;
use headwater_wire::{ApiKey, ProtocolError, request_header_version, response_header_version};

use super::Failure;

const LONGEST_RESPONSE: usize = 256 << 20;
const CLIENT_ID: &str = "faults";

/// A request with the one version of it that this client speaks.
pub trait Call {
    type Response;
    const KEY: ApiKey;
    const VERSION: i16;
    fn encode(&self, into: &mut BytesMut) -> Result<(), ProtocolError>;
    fn decode(from: &mut Bytes) -> Result<Self::Response, ProtocolError>;
}

macro_rules! calls {
    ($($key:ident $version:literal $request:ident => $response:ident;)*) => {$(
        impl Call for $request {
            type Response = $response;
            const KEY: ApiKey = ApiKey::$key;
            const VERSION: i16 = $version;
            fn encode(&self, into: &mut BytesMut) -> Result<(), ProtocolError> {
                self.write(into, $version)
            }
            fn decode(from: &mut Bytes) -> Result<Self::Response, ProtocolError> {
                $response::read(from, $version)
            }
        }
    )*};
}

calls! {
    Metadata 12 MetadataRequestData => MetadataResponseData;
    Produce 11 ProduceRequestData => ProduceResponseData;
    Fetch 12 FetchRequestData => FetchResponseData;
    ListOffsets 7 ListOffsetsRequestData => ListOffsetsResponseData;
    OffsetCommit 8 OffsetCommitRequestData => OffsetCommitResponseData;
    OffsetFetch 7 OffsetFetchRequestData => OffsetFetchResponseData;
    CreateTopics 6 CreateTopicsRequestData => CreateTopicsResponseData;
    DeleteTopics 5 DeleteTopicsRequestData => DeleteTopicsResponseData;
    DeleteRecords 2 DeleteRecordsRequestData => DeleteRecordsResponseData;
    DescribeConfigs 4 DescribeConfigsRequestData => DescribeConfigsResponseData;
    IncrementalAlterConfigs 1 IncrementalAlterConfigsRequestData => IncrementalAlterConfigsResponseData;
    InitProducerId 4 InitProducerIdRequestData => InitProducerIdResponseData;
    AddPartitionsToTxn 3 AddPartitionsToTxnRequestData => AddPartitionsToTxnResponseData;
    DescribeQuorum 1 DescribeQuorumRequestData => DescribeQuorumResponseData;
    ConsumerGroupHeartbeat 1 ConsumerGroupHeartbeatRequestData => ConsumerGroupHeartbeatResponseData;
    EndTxn 3 EndTxnRequestData => EndTxnResponseData;
}

pub struct Connection {
    stream: TcpStream,
    next_id: i32,
    /// Requests sent and not answered, oldest first.
    outstanding: VecDeque<i32>,
    power: Power,
}

/// Once it is off, answers do not count: behind a real power cut none would have come.
#[derive(Debug, Clone, Default)]
pub struct Power(Arc<AtomicBool>);

impl Power {
    pub fn switch(&self, on: bool) {
        self.0.store(!on, Ordering::SeqCst);
    }

    fn is_off(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }
}

fn lost(error: std::io::Error) -> Failure {
    Failure::Lost(error.to_string())
}

impl Connection {
    pub fn open(address: &str, timeout: Duration, power: &Power) -> Result<Self, Failure> {
        let target = address.to_socket_addrs().map_err(lost)?.next();
        let target = target.ok_or_else(|| Failure::Lost(format!("{address} has no address")))?;
        let stream = TcpStream::connect_timeout(&target, timeout).map_err(lost)?;
        stream.set_nodelay(true).map_err(lost)?;
        stream.set_read_timeout(Some(timeout)).map_err(lost)?;
        stream.set_write_timeout(Some(timeout)).map_err(lost)?;
        Ok(Self { stream, next_id: 0, outstanding: VecDeque::new(), power: power.clone() })
    }

    pub fn call<C: Call>(&mut self, request: &C) -> Result<C::Response, Failure> {
        self.send(request)?;
        self.receive::<C>()
    }

    /// Sends without waiting; answers come in the order of requests.
    pub fn send<C: Call>(&mut self, request: &C) -> Result<(), Failure> {
        let key = C::KEY as i16;
        let mut frame = BytesMut::new();
        frame.put_i32(0);
        frame.put_i16(key);
        frame.put_i16(C::VERSION);
        frame.put_i32(self.next_id);
        frame.put_i16(CLIENT_ID.len() as i16);
        frame.put_slice(CLIENT_ID.as_bytes());
        if request_header_version(key, C::VERSION) == 2 {
            frame.put_u8(0);
        }
        request.encode(&mut frame).map_err(|error| Failure::Malformed(error.to_string()))?;
        let length = (frame.len() - 4) as i32;
        frame[..4].copy_from_slice(&length.to_be_bytes());
        self.outstanding.push_back(self.next_id);
        self.next_id += 1;
        self.stream.write_all(&frame).map_err(lost)
    }

    pub fn receive<C: Call>(&mut self) -> Result<C::Response, Failure> {
        let mut frame = self.frame()?;
        let mut header = frame.clone();
        let version = response_header_version(C::KEY as i16, C::VERSION);
        let malformed = |error: ProtocolError| Failure::Malformed(error.to_string());
        let header = ResponseHeaderData::read(&mut header, version)
            .map(|read| (read.correlation_id, frame.len() - header.len()))
            .map_err(malformed)?;
        let expected = self.outstanding.pop_front();
        if expected != Some(header.0) {
            return Err(Failure::Malformed(format!("answer {} where {expected:?} was due", header.0)));
        }
        let _ = frame.split_to(header.1);
        C::decode(&mut frame).map_err(malformed)
    }

    fn frame(&mut self) -> Result<Bytes, Failure> {
        let mut length = [0; 4];
        self.stream.read_exact(&mut length).map_err(lost)?;
        let length = usize::try_from(i32::from_be_bytes(length)).ok().filter(|n| *n <= LONGEST_RESPONSE);
        let length = length.ok_or_else(|| Failure::Malformed("an impossible frame length".into()))?;
        let mut frame = vec![0; length];
        self.stream.read_exact(&mut frame).map_err(lost)?;
        match self.power.is_off() {
            true => Err(Failure::Lost("the power is off".to_owned())),
            false => Ok(frame.into()),
        }
    }
}
