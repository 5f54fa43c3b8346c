use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use super::*;

struct World {
    dir: tempfile::TempDir,
    clock: Clock,
}

impl World {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap(), clock: Clock::movable() }
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("audit.log")
    }

    fn sink(&self, max_bytes: u64, keep: usize) -> FileSink {
        let settings = AuditFile { path: self.path(), max_bytes, keep };
        FileSink::open(settings, self.clock.clone()).unwrap()
    }

    fn text(&self) -> String {
        fs::read_to_string(self.path()).unwrap()
    }

    /// The names of all files, sorted.
    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.dir.path()).unwrap();
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

/// Nobody else may read the file, it is appended to, and a line that a crash left half written is ended first.
#[test]
fn a_file_is_appended_to() {
    let world = World::new();
    world.sink(1_000, 1).write(b"one\n").unwrap();
    assert_eq!(fs::metadata(world.path()).unwrap().permissions().mode() & 0o777, 0o600);
    fs::write(world.path(), "one\n{\"half").unwrap();
    let mut sink = world.sink(1_000, 1);
    sink.write(b"two\n").unwrap();
    sink.write(b"three\n").unwrap();
    assert_eq!(world.text(), "one\n{\"half\ntwo\nthree\n");
}

/// A file that would grow too large is put aside under its time; the oldest are removed, and nobody else's files are.
#[test]
fn a_full_file_is_put_aside() {
    let world = World::new();
    fs::write(world.dir.path().join("audit-notes.log"), "somebody's").unwrap();
    let mut sink = world.sink(8, 2);
    for line in [b"1111\n", b"2222\n", b"3333\n", b"4444\n", b"5555\n"] {
        sink.write(line).unwrap();
        world.clock.advance(Duration::from_millis(1));
    }
    sink.write(b"one that is too long alone\n").unwrap();
    let names = world.names();
    assert_eq!(names.len(), 4, "{names:?}");
    assert!(names.contains(&"audit-notes.log".to_owned()) && names.contains(&"audit.log".to_owned()));
    let kept: Vec<_> = names
        .iter()
        .filter(|name| name.starts_with("audit-2"))
        .map(|name| world.dir.path().join(name))
        .collect();
    let kept: Vec<_> = kept.iter().map(|path| fs::read_to_string(path).unwrap()).collect();
    assert_eq!(kept, ["4444\n", "5555\n"]);
    assert_eq!(world.text(), "one that is too long alone\n");
}

/// The files that are kept are those written last, also while the clock was set back.
#[test]
fn the_newest_are_kept_by_a_clock_that_was_set_back() {
    let world = World::new();
    let mut sink = world.sink(8, 1);
    for line in [b"1111\n", b"2222\n"] {
        sink.write(line).unwrap();
    }
    world.clock.set_back(Duration::from_secs(3_600));
    for line in [b"3333\n", b"4444\n"] {
        sink.write(line).unwrap();
    }
    let names = world.names();
    let kept: Vec<_> =
        names.iter().map(|name| fs::read_to_string(world.dir.path().join(name)).unwrap()).collect();
    assert_eq!(kept, ["3333\n", "4444\n"], "{names:?}");
}

/// Where somebody else moves the file away, or removes it, the next events go into a new one.
#[test]
fn a_file_that_was_moved_away_is_made_anew() {
    let world = World::new();
    let mut sink = world.sink(1_000, 1);
    sink.write(b"one\n").unwrap();
    fs::rename(world.path(), world.dir.path().join("taken")).unwrap();
    sink.write(b"two\n").unwrap();
    assert_eq!(world.text(), "two\n");
    fs::remove_file(world.path()).unwrap();
    sink.write(b"three\n").unwrap();
    assert_eq!(world.text(), "three\n");
}

/// A device that is always full is an error each time, and no panic; what comes after it goes on.
#[test]
fn a_full_device_is_an_error() {
    let world = World::new();
    std::os::unix::fs::symlink("/dev/full", world.path()).unwrap();
    let mut sink = world.sink(1_000, 1);
    for _ in 0..3 {
        let error = sink.write(b"one\n").unwrap_err();
        assert!(error.to_string().contains("No space left"), "{error}");
    }
    fs::remove_file(world.path()).unwrap();
    sink.write(b"two\n").unwrap();
    assert_eq!(world.text(), "two\n");
}

/// What does not fit on a disk leaves no half of a line behind. The limit on the size of files that a shell can set acts
/// as a full disk does: part of what is written is written.
#[test]
fn a_half_written_line_is_cut_off_again() {
    const DIR: &str = "ENTRADA_TEST_FULL_DISK";
    if let Ok(path) = std::env::var(DIR) {
        let settings = AuditFile { path: PathBuf::from(path), max_bytes: 1 << 30, keep: 1 };
        let mut sink = FileSink::open(settings, Clock::movable()).unwrap();
        let line = |letter: u8| [vec![letter; 999], b"\n".to_vec()].concat();
        while sink.write(&line(b'a')).is_ok() {}
        // A shorter one still fits: the space that the half took is free again.
        sink.write(b"b\n").unwrap();
        return;
    }
    let world = World::new();
    let test = "audit::file::tests::a_half_written_line_is_cut_off_again";
    let script = format!("trap '' XFSZ; ulimit -S -f 9; exec \"$0\" --exact {test}");
    let status = Command::new("sh")
        .args(["-c", &script])
        .arg(std::env::current_exe().unwrap())
        .env(DIR, world.path())
        .stdout(std::process::Stdio::null())
        .status()
        .unwrap();
    assert!(status.success());
    let text = world.text();
    let (last, whole) = text.trim_end().rsplit_once('\n').map(|(rest, last)| (last, rest)).unwrap();
    assert_eq!(last, "b");
    assert!(whole.lines().all(|line| line.len() == 999) && whole.lines().count() >= 4, "{}", text.len());
}
