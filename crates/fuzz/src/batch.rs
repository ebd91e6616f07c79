//! Record batches: headers, checksums, compression, and what is written anew of them.

use bytes::Bytes;
use headwater_wire::Compression;
use headwater_wire::batch::{self, BatchHeader, HEADER_LEN};
use headwater_wire::filter::{OpenBatch, read_checked};
use headwater_wire::scan::scan;

/// A batch from a client. Its checksum is put right first, or nearly nothing would get past it; every eighth input is
/// left as it is.
pub fn batch(bytes: &[u8]) {
    let mut bytes = bytes.to_vec();
    if bytes.len() >= HEADER_LEN && bytes[0] % 8 != 7 {
        let length = (bytes.len() - 12) as i32;
        bytes[8..12].copy_from_slice(&length.to_be_bytes());
        bytes[16] = 2;
        let crc = crc32c::crc32c(&bytes[21..]);
        bytes[17..21].copy_from_slice(&crc.to_be_bytes());
    }
    let Ok(header) = BatchHeader::read(&bytes) else { return };
    let _ = header.check_from_client();
    if header.verify(&bytes).is_err() {
        return;
    }
    let shared = Bytes::from(bytes);
    let decoded = batch::decode(&header, &shared);
    if let Ok(records) = &decoded {
        assert_eq!(records.len(), header.record_count as usize);
    }
    // Whether a window is too large, zstd looks only where what comes out is not all taken at once.
    if !matches!(header.compression(), Ok(Compression::Zstd)) && scan(&header, &shared).is_ok() {
        assert!(decoded.is_ok(), "a batch is taken that nobody reads: {decoded:?}");
    }
    let Ok(header) = read_checked(&shared) else { return };
    let Ok(opened) = OpenBatch::decompress(header, &shared) else { return };
    let mut spans = Vec::new();
    if opened.visit(|view| spans.push(view.span)).is_err() {
        return;
    }
    let kept: Vec<_> = spans.into_iter().step_by(2).collect();
    if let Ok(rewritten) = opened.rewrite(&kept, None) {
        let header = BatchHeader::read(&rewritten).expect("what was written anew has a header");
        header.verify(&rewritten).expect("and its checksum");
        // Values and headers are copied unread: they are as good as they were.
        let again = batch::decode(&header, &rewritten);
        assert!(again.is_ok() || decoded.is_err(), "a good record was spoiled: {again:?}");
    }
}
