//! What only files can do to a gate's mirror.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use actors::ports::MirrorAnswer;
use engine::gate::{Draw, MirrorOp, Snapshot};
use engine::{ConcertId, Epoch, Turn};
use hotseat::mirror::local::LocalMirror;
use tempfile::TempDir;

use super::{Copy, NOW, admit, end, in_dir, join, remove, snapshot};
use crate::support::Place;
use crate::support::disk::{Disk, with_mounts};

const CONCERT: ConcertId = ConcertId(7);

fn open(dir: &TempDir) -> Copy {
    Copy { mirror: in_dir(dir), concert: CONCERT }
}

fn file(dir: &TempDir) -> PathBuf {
    dir.path().join("gates").join(format!("{CONCERT}.log"))
}

/// A directory whose gate has this file.
fn with_file(bytes: &[u8]) -> TempDir {
    let dir = TempDir::new().unwrap();
    fs::create_dir(dir.path().join("gates")).unwrap();
    fs::write(file(&dir), bytes).unwrap();
    dir
}

fn len(path: &Path) -> u64 {
    fs::metadata(path).unwrap().len()
}

#[tokio::test]
async fn whoever_kills_the_process_loses_nothing() {
    let dir = TempDir::new().unwrap();
    let copy = open(&dir);
    copy.take_over(1).await;
    assert!(!dir.path().join("gates").exists(), "a gate that nobody uses has no file");
    copy.apply(1, 0, 3, vec![join(1), join(2), join(3)]).await;
    copy.apply(1, 3, 4, vec![admit(1)]).await;
    let mode = fs::metadata(file(&dir)).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "who waits is nobody else's business");
    // Another process: nothing of the first one's was ended.
    let again = open(&dir);
    assert_eq!(again.take_over(2).await, snapshot(&[2, 3], &[1]));
    again.apply(2, 0, 1, vec![remove(2)]).await;
    let frozen = MirrorOp::Draw(Draw::Frozen { first: Turn(3), upto: Turn(9) });
    again.apply(2, 1, 2, vec![frozen]).await;
    let kept = open(&dir).take_over(3).await;
    assert_eq!(
        kept,
        Snapshot {
            draw: Draw::Frozen { first: Turn(3), upto: Turn(9) },
            next: Turn(104),
            ..snapshot(&[3], &[1])
        }
    );
    let whole = Snapshot { draw: Draw::Done, next: Turn(1_000), ..snapshot(&[5], &[6, 7]) };
    assert_eq!(open(&dir).rebuild(4, 1, &whole).await, MirrorAnswer::Applied);
    assert_eq!(open(&dir).take_over(5).await, whole);
    // A ledger from a backup knows lower epochs than the file.
    let error = open(&dir).mirror.take_over(CONCERT, Epoch(3), NOW).await.unwrap_err().to_string();
    assert!(error.contains("belongs to epoch 4 by now"), "{error}");
}

/// A file with two batches behind its beginning, and what there is after each of its records.
async fn three_records() -> (Vec<u8>, Vec<(usize, Snapshot)>) {
    let dir = TempDir::new().unwrap();
    let (copy, path) = (open(&dir), file(&dir));
    let mut ends = Vec::new();
    copy.rebuild(1, 1, &snapshot(&[1, 2], &[3])).await;
    for (op, changes) in [(1, Vec::new()), (2, vec![join(4), remove(1)]), (3, vec![end(3), admit(2)])] {
        if op > 1 {
            copy.apply(1, op - 1, op, changes).await;
        }
        let kept = open(&dir).take_over(9).await;
        ends.push((usize::try_from(len(&path)).unwrap(), kept));
    }
    (fs::read(&path).unwrap(), ends)
}

#[tokio::test]
async fn a_torn_end_is_cut_off_wherever_it_is_torn() {
    let (bytes, ends) = three_records().await;
    assert_eq!(ends[2].1, Snapshot { next: Turn(105), ..snapshot(&[4], &[2]) });
    for torn in 0..=bytes.len() {
        let dir = with_file(&bytes[..torn]);
        let copy = open(&dir);
        let Some((end, kept)) = ends.iter().rfind(|(end, _)| *end <= torn) else {
            // It is renamed to its name as a whole: this is something else than a process that died.
            assert!(copy.mirror.take_over(CONCERT, Epoch(2), NOW).await.is_err(), "{torn} bytes");
            assert_eq!(len(&file(&dir)), torn as u64);
            continue;
        };
        assert_eq!(copy.take_over(2).await, *kept, "{torn} bytes");
        assert_eq!(len(&file(&dir)), *end as u64, "{torn} bytes");
        // It goes on behind the cut.
        copy.apply(2, 0, 1, vec![join(9)]).await;
        assert_eq!(open(&dir).line(3).await.last(), Some(&9), "{torn} bytes");
    }
}

#[tokio::test]
async fn damage_is_an_error_until_somebody_takes_the_file_away() {
    let (bytes, _) = three_records().await;
    for at in 0..bytes.len() {
        let mut damaged = bytes.clone();
        damaged[at] ^= 0x10;
        let dir = with_file(&damaged);
        let error = open(&dir).mirror.take_over(CONCERT, Epoch(2), NOW).await;
        let error = error.expect_err(&format!("byte {at} is wrong")).to_string();
        assert!(error.contains(file(&dir).to_str().unwrap()) && error.contains("damaged at byte"), "{error}");
    }
    let dir = with_file(&bytes[1..]);
    let copy = open(&dir);
    let kept = snapshot(&[1], &[]);
    for _ in 0..2 {
        assert!(copy.mirror.take_over(CONCERT, Epoch(2), NOW).await.is_err());
        assert!(copy.mirror.apply(&copy.batch(2, 0, 1, vec![join(1)])).await.is_err());
        assert!(copy.mirror.rebuild(CONCERT, Epoch(2), 1, NOW, &kept).await.is_err());
    }
    assert_eq!(fs::read(file(&dir)).unwrap(), &bytes[1..], "nobody touched it");
    fs::rename(file(&dir), dir.path().join("aside")).unwrap();
    assert_eq!(copy.rebuild(2, 1, &kept).await, MirrorAnswer::Applied);
    assert_eq!(open(&dir).take_over(3).await, kept);
    let other = Copy { concert: ConcertId(8), ..copy };
    fs::copy(file(&dir), dir.path().join("gates/8.log")).unwrap();
    let error = other.mirror.take_over(other.concert, Epoch(1), NOW).await.unwrap_err().to_string();
    assert!(error.contains("it is of concert 7"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn long_files_are_folded() {
    let dir = TempDir::new().unwrap();
    let (copy, path) = (open(&dir), file(&dir));
    copy.take_over(1).await;
    // One who died before the rename.
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path.with_extension("new"), b"half").unwrap();
    let mut longest = 0;
    for op in 1..=200 {
        let changes = (0..400).map(|user| if op % 2 == 1 { join(user) } else { remove(user) });
        copy.apply(1, op - 1, op, changes.collect()).await;
        longest = longest.max(len(&path));
    }
    assert!(longest > 1_000_000, "{longest} bytes");
    assert!(longest < (1 << 20) + (1 << 16), "200 batches of 400 changes: {longest} bytes");
    assert_eq!(open(&dir).take_over(2).await, Snapshot { next: Turn(500), ..Snapshot::default() });
}

/// A dead actor's batch, which waited somewhere in this process while its successor took over.
#[tokio::test]
async fn the_fence_holds_within_one_process() {
    let dir = TempDir::new().unwrap();
    let copy = open(&dir);
    copy.take_over(1).await;
    copy.apply(1, 0, 1, vec![join(1)]).await;
    let before = len(&file(&dir));
    let late = copy.batch(1, 1, 2, vec![remove(1)]);
    assert_eq!(copy.line(2).await, [1]);
    assert_eq!(copy.mirror.apply(&late).await.unwrap(), MirrorAnswer::Fenced);
    assert_eq!(copy.rebuild(1, 9, &Snapshot::default()).await, MirrorAnswer::Fenced);
    assert_eq!(len(&file(&dir)), before, "nothing of it was written");
    assert_eq!(open(&dir).line(3).await, [1]);
}

#[test]
fn a_full_disk_takes_nothing_and_loses_nothing() {
    with_mounts("mirror::gates::files::a_full_disk_takes_nothing_and_loses_nothing", || {
        let place = Place::new();
        let disk = Disk::on(&place, "4m");
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(on(&place.data, &disk));
    });
}

async fn on(data: &Path, disk: &Disk) {
    let open = || Copy { mirror: Arc::new(LocalMirror::in_dir(data.join("gates"))), concert: CONCERT };
    let copy = open();
    copy.rebuild(1, 1, &snapshot(&[1, 2], &[])).await;
    disk.fill();
    // More than the rest of the file's last page: the beginning is written, and taken away again.
    let many: Vec<u64> = (10..1_000).collect();
    let batch = copy.batch(1, 1, 2, many.iter().copied().map(join).collect());
    let error = copy.mirror.apply(&batch).await.unwrap_err().to_string();
    assert!(error.contains("7.log") && error.contains("No space left"), "{error}");
    assert!(copy.mirror.rebuild(CONCERT, Epoch(1), 3, NOW, &snapshot(&many, &[])).await.is_err());
    // Everybody may read their place, here and after a restart.
    assert_eq!(copy.take_over(2).await, snapshot(&[1, 2], &[]));
    assert_eq!(open().take_over(2).await, snapshot(&[1, 2], &[]));
    disk.make_room();
    copy.apply(2, 0, 1, vec![join(3)]).await;
    assert_eq!(open().line(3).await, [1, 2, 3]);
}
