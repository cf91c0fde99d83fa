//! The two images of a simulated disk, and what a power cut makes of them.
//!
//! Live is what calls see; durable is what a power cut leaves at least. Between them lie, in
//! order, the unsynced pieces of each file and the unsynced changes of directories. Invariants:
//! an unsynced piece never crosses a sector; of the pieces of one sector a cut keeps a prefix (a
//! page holds all earlier writes to it), across sectors it keeps anything.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;

use super::Mode;
use super::contents::Contents;

/// What a device writes as one unit, in bytes.
const SECTOR_BYTES: u64 = 512;
/// What memory moves as one unit: a torn write tears here, in bytes.
const WORD_BYTES: usize = 8;

/// Number of a file or directory.
pub(super) type Inode = u64;
/// The root directory.
pub(super) const ROOT: Inode = 1;

/// splitmix64: small, and the same everywhere.
#[derive(Clone)]
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }

    /// A number below `bound`, which is not 0.
    pub(super) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}

/// The output function of splitmix64.
pub(super) fn mix(seed: u64) -> u64 {
    let mut z = seed;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// An unsynced change of a file.
#[derive(Clone)]
enum Pending {
    /// Bytes within one sector.
    Piece {
        offset: u64,
        bytes: Arc<[u8]>,
    },
    Length(u64),
    Mtime(i64),
}

#[derive(Clone, Default)]
pub(super) struct FileNode {
    pub(super) live: Contents,
    pub(super) mtime_ns: i64,
    durable: Contents,
    durable_mtime_ns: i64,
    pending: Vec<Pending>,
    /// A sync failed: live has what durable lacks and will not get.
    lies: bool,
}

#[derive(Clone, Default)]
pub(super) struct DirNode {
    pub(super) live: Names,
    pub(super) mtime_ns: i64,
    durable: Names,
}

/// What is in a directory.
pub(super) type Names = BTreeMap<Arc<[u8]>, Inode>;

#[derive(Clone)]
pub(super) enum Node {
    File(FileNode),
    Dir(DirNode),
    /// A symbolic link and where it leads; what it says comes and goes with its name.
    Link(Arc<Path>),
}

/// One name that a directory operation sets or removes.
#[derive(Clone)]
pub(super) struct Change {
    pub(super) dir: Inode,
    pub(super) name: Arc<[u8]>,
    pub(super) to: Option<Inode>,
}

/// Both images. Clones share what neither changes.
#[derive(Clone)]
pub(super) struct Disk {
    pub(super) nodes: HashMap<Inode, Arc<Node>>,
    next_inode: Inode,
    mode: Mode,
    /// Unsynced directory operations in order; each is atomic.
    names_pending: Vec<Arc<Vec<Change>>>,
}

/// Tells outcomes of chance apart.
struct Digest(u64);

impl Digest {
    fn add(&mut self, what: u64) {
        self.0 = mix(self.0 ^ what).wrapping_add(1);
    }
}

/// Cuts `bytes` at sector borders.
fn pieces(offset: u64, bytes: &[u8]) -> impl Iterator<Item = Pending> + '_ {
    let mut at = 0;
    std::iter::from_fn(move || {
        if at == bytes.len() {
            return None;
        }
        let start = offset + at as u64;
        let room = (SECTOR_BYTES - start % SECTOR_BYTES) as usize;
        let end = bytes.len().min(at + room);
        let piece = Pending::Piece { offset: start, bytes: bytes[at..end].into() };
        at = end;
        Some(piece)
    })
}

impl FileNode {
    fn new(now_ns: i64) -> FileNode {
        FileNode { mtime_ns: now_ns, durable_mtime_ns: now_ns, ..FileNode::default() }
    }

    pub(super) fn write(&mut self, offset: u64, bytes: &[u8], now_ns: i64) {
        self.live.write(offset, bytes);
        self.mtime_ns = now_ns;
        self.pending.extend(pieces(offset, bytes));
    }

    /// A write that is on the device when it returns: with it go earlier pieces of its sectors,
    /// and no others.
    pub(super) fn write_durable(&mut self, offset: u64, bytes: &[u8], now_ns: i64) {
        self.write(offset, bytes, now_ns);
        let sectors = offset / SECTOR_BYTES..(offset + bytes.len() as u64).div_ceil(SECTOR_BYTES);
        for pending in std::mem::take(&mut self.pending) {
            match pending {
                Pending::Piece { offset, bytes } if sectors.contains(&(offset / SECTOR_BYTES)) => {
                    self.durable.write(offset, &bytes);
                }
                other => self.pending.push(other),
            }
        }
    }

    pub(super) fn set_len(&mut self, len: u64, now_ns: i64) {
        self.live.resize(len as usize);
        self.mtime_ns = now_ns;
        self.pending.push(Pending::Length(len));
    }

    pub(super) fn set_mtime(&mut self, mtime_ns: i64) {
        self.mtime_ns = mtime_ns;
        self.pending.push(Pending::Mtime(mtime_ns));
    }

    pub(super) fn sync(&mut self) {
        self.durable_mtime_ns = self.mtime_ns;
        if !self.lies {
            self.pending.clear();
            self.durable = self.live.clone();
            return;
        }
        for pending in self.pending.drain(..) {
            match pending {
                Pending::Piece { offset, bytes } => self.durable.write(offset, &bytes),
                Pending::Length(len) => self.durable.resize(len as usize),
                Pending::Mtime(_) => {}
            }
        }
    }

    /// Writes back some of what is pending and forgets the rest. Live keeps all of it, so a
    /// later sync succeeds and saves nothing: the page cache lies.
    pub(super) fn lose_some(&mut self, random: &mut Random) {
        self.lose(random, &mut Digest(0));
        self.lies = true;
    }

    fn lose(&mut self, random: &mut Random, digest: &mut Digest) {
        let quarters_kept = random.below(5);
        let keep = |random: &mut Random| random.below(4) < quarters_kept;
        let mut frozen = HashSet::new();
        for pending in self.pending.drain(..) {
            match pending {
                Pending::Piece { offset, bytes } => {
                    let sector = offset / SECTOR_BYTES;
                    if frozen.contains(&sector) {
                        continue;
                    }
                    if !keep(random) {
                        frozen.insert(sector);
                        digest.add(0);
                        continue;
                    }
                    let mut kept = &bytes[..];
                    if (bytes.len() as u64) < SECTOR_BYTES && random.below(4) == 0 {
                        // Caught half way into the page: torn at a word of the file.
                        let head = WORD_BYTES - (offset as usize % WORD_BYTES);
                        let words = bytes.len().saturating_sub(head) / WORD_BYTES;
                        let cut = head + random.below(words as u64 + 1) as usize * WORD_BYTES;
                        kept = &bytes[..cut.min(bytes.len())];
                        frozen.insert(sector);
                    }
                    digest.add(1 + kept.len() as u64);
                    self.durable.write(offset, kept);
                }
                Pending::Length(len) if keep(random) => {
                    digest.add(1);
                    self.durable.resize(len as usize);
                }
                Pending::Mtime(mtime_ns) if keep(random) => {
                    digest.add(1);
                    self.durable_mtime_ns = mtime_ns;
                }
                Pending::Length(_) | Pending::Mtime(_) => digest.add(0),
            }
        }
    }
}

impl Disk {
    pub(super) fn new(mode: Mode) -> Disk {
        let nodes = HashMap::from([(ROOT, Arc::new(Node::Dir(DirNode::default())))]);
        Disk { nodes, next_inode: ROOT + 1, mode, names_pending: Vec::new() }
    }

    pub(super) fn add_file(&mut self, now_ns: i64) -> Inode {
        self.add(Node::File(FileNode::new(now_ns)))
    }

    pub(super) fn add_dir(&mut self, now_ns: i64) -> Inode {
        self.add(Node::Dir(DirNode { mtime_ns: now_ns, ..DirNode::default() }))
    }

    pub(super) fn add_link(&mut self, target: &Path) -> Inode {
        self.add(Node::Link(target.into()))
    }

    /// Where a symbolic link leads; `None` for anything else.
    pub(super) fn link(&self, inode: Inode) -> Option<&Arc<Path>> {
        match self.nodes.get(&inode)?.as_ref() {
            Node::Link(target) => Some(target),
            Node::File(_) | Node::Dir(_) => None,
        }
    }

    fn add(&mut self, node: Node) -> Inode {
        let inode = self.next_inode;
        self.next_inode += 1;
        self.nodes.insert(inode, Arc::new(node));
        inode
    }

    pub(super) fn dir(&self, inode: Inode) -> Option<&DirNode> {
        match self.nodes.get(&inode)?.as_ref() {
            Node::Dir(dir) => Some(dir),
            Node::File(_) | Node::Link(_) => None,
        }
    }

    pub(super) fn file(&mut self, inode: Inode) -> Option<&mut FileNode> {
        match Arc::make_mut(self.nodes.get_mut(&inode)?) {
            Node::File(file) => Some(file),
            Node::Dir(_) | Node::Link(_) => None,
        }
    }

    /// A file, to be read only.
    pub(super) fn file_as_is(&self, inode: Inode) -> Option<&FileNode> {
        match self.nodes.get(&inode)?.as_ref() {
            Node::File(file) => Some(file),
            Node::Dir(_) | Node::Link(_) => None,
        }
    }

    pub(super) fn mode(&self) -> Mode {
        self.mode
    }

    /// Makes one atomic directory operation, unsynced.
    pub(super) fn change_names(&mut self, changes: Vec<Change>, now_ns: i64) {
        for change in &changes {
            if let Some(dir) = dir_mut(&mut self.nodes, change.dir) {
                dir.mtime_ns = now_ns;
                set_name(&mut dir.live, change);
            }
        }
        self.names_pending.push(Arc::new(changes));
    }

    pub(super) fn sync_file(&mut self, inode: Inode) {
        if let Some(file) = self.file(inode) {
            file.sync();
        }
        // ext4, xfs and btrfs commit the names of a new file with its first sync.
        if self.mode == Mode::Ordered {
            self.sync_names_up_to(|change| change.to == Some(inode));
        }
    }

    pub(super) fn sync_dir(&mut self, inode: Inode) {
        match self.mode {
            Mode::Ordered => self.sync_names_up_to(|change| change.dir == inode),
            Mode::Weak | Mode::NoJournal => self.sync_names_of(inode),
        }
    }

    pub(super) fn sync_all(&mut self) {
        for node in self.nodes.values_mut() {
            if matches!(node.as_ref(), Node::File(file) if !file.pending.is_empty())
                && let Node::File(file) = Arc::make_mut(node)
            {
                file.sync();
            }
        }
        self.sync_names_up_to(|_| true);
    }

    /// A journal commits in order: the last operation that matches, and all before it.
    fn sync_names_up_to(&mut self, matches: impl Fn(&Change) -> bool) {
        let last = self.names_pending.iter().rposition(|changes| changes.iter().any(&matches));
        for changes in self.names_pending.drain(..last.map_or(0, |last| last + 1)) {
            apply(&mut self.nodes, &changes);
        }
    }

    fn sync_names_of(&mut self, inode: Inode) {
        let mut kept: Vec<Arc<Vec<Change>>> = Vec::new();
        for changes in std::mem::take(&mut self.names_pending) {
            if !changes.iter().any(|change| change.dir == inode) {
                kept.push(changes);
                continue;
            }
            apply(&mut self.nodes, &changes);
            // An older change of these names must not come back over the synced one.
            let same = |o: &Change| changes.iter().any(|c| (c.dir, &c.name) == (o.dir, &o.name));
            for older in kept.iter_mut().filter(|older| older.iter().any(same)) {
                Arc::make_mut(older).retain(|o| !same(o));
            }
        }
        self.names_pending = kept;
    }

    /// What is left after a power cut becomes both images. Returns a number that tells apart
    /// what chance left.
    pub(super) fn crash(&mut self, random: &mut Random) -> u64 {
        let mut digest = Digest(0);
        let pending = std::mem::take(&mut self.names_pending);
        let prefix = random.below(pending.len() as u64 + 1) as usize;
        let mut dirs = BTreeSet::new();
        for (i, changes) in pending.iter().enumerate() {
            let survives = match self.mode {
                Mode::Ordered => i < prefix,
                Mode::Weak | Mode::NoJournal => random.below(2) == 0,
            };
            digest.add(u64::from(survives));
            if survives {
                apply(&mut self.nodes, changes);
            }
            dirs.extend(changes.iter().map(|change| change.dir));
        }
        // All other directories are durable as they are.
        for inode in dirs {
            if let Some(dir) = dir_mut(&mut self.nodes, inode) {
                dir.live = dir.durable.clone();
            }
        }
        let unsynced = |(inode, node): (&Inode, &Arc<Node>)| match node.as_ref() {
            Node::File(file) if file.lies || !file.pending.is_empty() => Some(*inode),
            _ => None,
        };
        let mut inodes: Vec<Inode> = self.nodes.iter().filter_map(unsynced).collect();
        inodes.sort_unstable();
        for inode in inodes {
            digest.add(inode);
            let Some(file) = self.file(inode) else { continue };
            file.lose(random, &mut digest);
            file.live = file.durable.clone();
            file.mtime_ns = file.durable_mtime_ns;
            file.lies = false;
        }
        digest.0
    }

    /// Forgets what no name leads to.
    pub(super) fn drop_unreachable(&mut self) {
        let (mut reached, mut next) = (HashSet::from([ROOT]), vec![ROOT]);
        while let Some(inode) = next.pop() {
            if let Some(dir) = self.dir(inode) {
                next.extend(dir.live.values().copied().filter(|child| reached.insert(*child)));
            }
        }
        self.nodes.retain(|inode, _| reached.contains(inode));
    }
}

fn dir_mut(nodes: &mut HashMap<Inode, Arc<Node>>, inode: Inode) -> Option<&mut DirNode> {
    match Arc::make_mut(nodes.get_mut(&inode)?) {
        Node::Dir(dir) => Some(dir),
        Node::File(_) | Node::Link(_) => None,
    }
}

fn set_name(names: &mut Names, change: &Change) {
    match change.to {
        Some(inode) => names.insert(change.name.clone(), inode),
        None => names.remove(&change.name),
    };
}

fn apply(nodes: &mut HashMap<Inode, Arc<Node>>, changes: &[Change]) {
    for change in changes {
        if let Some(dir) = dir_mut(nodes, change.dir) {
            set_name(&mut dir.durable, change);
        }
    }
}
