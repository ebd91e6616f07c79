//! Objects in a directory.

use super::*;

const NAME: &str = "00000000000000000007.wal";

fn objects(directory: &std::path::Path) -> Objects {
    let url = format!("file://{}", directory.display());
    Objects::open(&url, "cluster", Handle::current(), Arc::default()).unwrap()
}

fn contents() -> Vec<u8> {
    (0..2 * PART + 12_345).map(|at| (at / 251 + at) as u8).collect()
}

/// Every file below a directory, with its length.
fn files(directory: &std::path::Path) -> Vec<(String, u64)> {
    let Ok(entries) = std::fs::read_dir(directory.join("cluster")) else { return Vec::new() };
    let of = |entry: std::fs::DirEntry| {
        (entry.file_name().into_string().unwrap(), entry.metadata().unwrap().len())
    };
    entries.map(|entry| of(entry.unwrap())).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_put_in_pieces_is_there_as_a_whole() {
    let directory = tempfile::tempdir().unwrap();
    let (objects, contents) = (objects(directory.path()), contents());
    let done = tokio::task::spawn_blocking(move || {
        for length in [0, 1, PART - 1, PART, PART + 1, contents.len()] {
            let mut rest = contents[..length].chunks(PART);
            objects.put(NAME, &mut || Ok(rest.next().map(<[u8]>::to_vec))).unwrap();
            assert!(objects.get(NAME).unwrap() == contents[..length], "{length} bytes");
            assert_eq!(objects.size(NAME).unwrap(), Some(length as u64));
        }
        contents.len() as u64
    });
    let length = done.await.unwrap();
    assert_eq!(files(directory.path()), [(NAME.to_owned(), length)], "nothing is left of the uploads");
}

/// The local copy goes when an object is there, so a part of one must never be.
#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_read_to_its_end_is_not_there() {
    let directory = tempfile::tempdir().unwrap();
    let (objects, contents) = (objects(directory.path()), contents());
    let refused = tokio::task::spawn_blocking(move || {
        let mut rest = contents.chunks(PART).take(2);
        let mut pieces = || match rest.next() {
            Some(piece) => Ok(Some(piece.to_vec())),
            None => Err(io::Error::other("the disk fails")),
        };
        let refused = objects.put(NAME, &mut pieces).unwrap_err().to_string();
        assert_eq!(objects.size(NAME).unwrap(), None);
        refused
    });
    assert!(refused.await.unwrap().contains("the disk fails"));
    assert_eq!(files(directory.path()), []);
}
