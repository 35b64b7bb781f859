//! Disks of all kinds: a large one with everything in it, and broken ones.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, ensure};

use crate::disk::{self, make_ext4, pseudo_random, sha256, write_file};
use crate::{Disk, Exit, MakeDisk, Run, Scenario};

/// Sizes around the borders of blocks, extents and requests.
const SIZES: [usize; 9] = [0, 1, 511, 4095, 4096, 4097, 100_000, 3 << 20, 64 << 20];
const FILES_IN_ONE_FOLDER: usize = 1000;
const DEPTH: usize = 40;
const LARGE_DISK_MIB: u64 = 192;

pub(super) fn scenarios() -> Vec<Scenario> {
    let sums: Vec<String> = SIZES
        .iter()
        .map(|size| format!("sha256sum /size/{size}"))
        .collect();
    let mut scenarios = vec![
        Scenario::new("files of all sizes have the host's checksums")
            .disk(Disk::Made(large))
            .time_limit(180)
            .exec(&sums.join("; "))
            .expect(|run| {
                run.expect_code(0)?;
                SIZES.iter().try_for_each(|&size| {
                    let sum = sha256(&pseudo_random(size as u64, size));
                    run.expect_text(&format!("{sum}  /size/{size}\n"))
                })
            }),
        Scenario::new("a folder of a thousand files is listed in full")
            .disk(Disk::Made(large))
            .exec("ls /many")
            .expect(|run| {
                run.expect_code(0)?;
                let words: std::collections::HashSet<&str> =
                    run.output.split_whitespace().collect();
                let missing = (0..FILES_IN_ONE_FOLDER).find(|i| !words.contains(&*many(*i)));
                ensure!(missing.is_none(), "file {missing:?} is not listed");
                Ok(())
            }),
        Scenario::new("deep paths and chains of links are followed")
            .disk(Disk::Made(large))
            .exec(&format!("cat /{}; cat /chain/9", deep_path()))
            .expect(|run| {
                run.expect_code(0)?;
                run.expect_text("deep down\n")?;
                run.expect_text("end of the chain\n")
            }),
        Scenario::new("a circle of links is an error")
            .disk(Disk::Made(large))
            .exec("cat /circle/a")
            .expect(|run| run.expect_code(1)),
    ];
    let broken: [(&str, MakeDisk); 4] = [
        ("truncated", truncated),
        ("random", random),
        ("without a superblock", without_superblock),
        ("with a folder inside itself", cyclic),
    ];
    for (what, make) in broken {
        scenarios.push(
            Scenario::new(&format!("a disk {what} does no harm"))
                .disk(Disk::Made(make))
                .exec("ls /; ls /docs; cat /hello.txt; sha256sum /big.bin; echo alive")
                .expect(expect_alive),
        );
    }
    scenarios
}

/// The commands may fail, but the last one works and the machine ends in order.
fn expect_alive(run: &Run) -> anyhow::Result<()> {
    run.expect_text("alive\n")?;
    ensure!(
        matches!(run.exit, Exit::Orderly(_)),
        "the machine ended with {:?}",
        run.exit
    );
    let good = sha256(&pseudo_random(8 << 20, 8 << 20));
    let lies = run
        .output
        .lines()
        .any(|line| line.ends_with("/big.bin") && is_sum(line, &good));
    ensure!(!lies, "a wrong checksum was printed as if it were right");
    Ok(())
}

/// Tells whether a line is a checksum other than the right one.
fn is_sum(line: &str, good: &str) -> bool {
    line.split(' ')
        .next()
        .is_some_and(|sum| sum.len() == good.len() && sum != good)
}

fn many(i: usize) -> String {
    format!("file-{i:04}")
}

fn deep_path() -> String {
    (0..DEPTH)
        .map(|level| format!("d{level}/"))
        .collect::<String>()
        + "file"
}

fn large(scratch: &Path) -> anyhow::Result<PathBuf> {
    let image = scratch.join("large.img");
    if image.exists() {
        return Ok(image);
    }
    let folder = scratch.join("large.files");
    for size in SIZES {
        let content = pseudo_random(size as u64, size);
        write_file(&folder.join("size").join(size.to_string()), &content)?;
    }
    for i in 0..FILES_IN_ONE_FOLDER {
        write_file(&folder.join("many").join(many(i)), many(i).as_bytes())?;
    }
    write_file(&folder.join(deep_path()), b"deep down\n")?;
    write_file(&folder.join("chain/0"), b"end of the chain\n")?;
    for i in 1..10 {
        link(&(i - 1).to_string(), &folder.join(format!("chain/{i}")))?;
    }
    fs::create_dir_all(folder.join("circle"))?;
    link("b", &folder.join("circle/a"))?;
    link("a", &folder.join("circle/b"))?;
    make_ext4(&folder, &image, LARGE_DISK_MIB)?;
    fs::remove_dir_all(&folder)?;
    Ok(image)
}

/// Makes a symbolic link, in place of one that an earlier run may have left behind.
fn link(target: &str, at: &Path) -> anyhow::Result<()> {
    match fs::remove_file(at) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
        _ => {}
    }
    Ok(std::os::unix::fs::symlink(target, at)?)
}

/// Copies the sample image to change it.
fn sample(scratch: &Path, name: &str) -> anyhow::Result<PathBuf> {
    let sample = scratch.join("sample.img");
    disk::make_sample(&sample)?;
    let image = scratch.join(name);
    fs::copy(&sample, &image)?;
    Ok(image)
}

fn truncated(scratch: &Path) -> anyhow::Result<PathBuf> {
    let image = sample(scratch, "truncated.img")?;
    // Past the superblock and the first tables, before most of the data.
    fs::OpenOptions::new()
        .write(true)
        .open(&image)?
        .set_len(1 << 20)?;
    Ok(image)
}

fn random(scratch: &Path) -> anyhow::Result<PathBuf> {
    let image = scratch.join("random.img");
    write_file(&image, &pseudo_random(1, 4 << 20))?;
    Ok(image)
}

fn without_superblock(scratch: &Path) -> anyhow::Result<PathBuf> {
    let image = sample(scratch, "without-superblock.img")?;
    let mut bytes = fs::read(&image)?;
    bytes[1024..2048].fill(0);
    fs::write(&image, bytes)?;
    Ok(image)
}

fn cyclic(scratch: &Path) -> anyhow::Result<PathBuf> {
    let image = sample(scratch, "cyclic.img")?;
    let debugfs = disk::find_mkfs().with_file_name("debugfs");
    let output = Command::new(debugfs)
        .args(["-w", "-R", "link /docs /docs/deep/again"])
        .arg(&image)
        .output()
        .context("cannot start debugfs")?;
    ensure!(
        output.status.success(),
        "debugfs: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(image)
}
