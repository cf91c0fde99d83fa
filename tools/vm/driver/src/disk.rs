//! A disk with a volatile write cache, and what a power cut leaves of it.
//!
//! Every write and flush is an event, in the order in which the disk answered them. An event is
//! recorded before its answer goes out, so whatever a client was told later can only rest on events
//! below [`Recorder::now`] of that moment. After a cut behind event `k` the disk holds: everything
//! written before the last flush below `k`; every FUA write below `k`; of each other write since that
//! flush all, nothing, or some sectors.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::random::Random;

/// Unit in which images share memory, in bytes.
const PAGE_BYTES: usize = 4096;

/// Contents of a disk; copies share what is equal.
#[derive(Clone)]
pub struct Image {
    /// `None` reads as zeros.
    pages: Vec<Option<Arc<[u8; PAGE_BYTES]>>>,
}

impl Image {
    /// A disk of so many bytes, all zeros; a multiple of 4096.
    pub fn zeros(bytes: u64) -> Self {
        Self { pages: vec![None; bytes as usize / PAGE_BYTES] }
    }

    /// Its size.
    pub fn bytes(&self) -> u64 {
        (self.pages.len() * PAGE_BYTES) as u64
    }

    /// Fills `into` from byte `at` on. The kernel asks for nothing past the end.
    pub fn read(&self, at: u64, into: &mut [u8]) {
        each_page(at, into.len(), |page, within, range| match &self.pages[page] {
            Some(held) => into[range.clone()].copy_from_slice(&held[within..within + range.len()]),
            None => into[range].fill(0),
        });
    }

    /// Puts `data` at byte `at`, within the disk.
    pub fn write(&mut self, at: u64, data: &[u8]) {
        each_page(at, data.len(), |page, within, range| {
            let from = &data[range];
            if self.pages[page].is_none() && from.iter().all(|byte| *byte == 0) {
                return;
            }
            let held = self.pages[page].get_or_insert_with(|| Arc::new([0; PAGE_BYTES]));
            Arc::make_mut(held)[within..within + from.len()].copy_from_slice(from);
        });
    }
}

/// Calls `each(page, offset in it, range of the data)` for what `length` bytes from `at` touch.
fn each_page(at: u64, length: usize, mut each: impl FnMut(usize, usize, std::ops::Range<usize>)) {
    let mut done = 0;
    while done < length {
        let place = at as usize + done;
        let within = place % PAGE_BYTES;
        let part = (PAGE_BYTES - within).min(length - done);
        each(place / PAGE_BYTES, within, done..done + part);
        done += part;
    }
}

/// One thing that the disk did.
#[derive(Clone)]
pub enum Event {
    /// `data` went to byte `at`; with `fua` straight to the medium.
    Write {
        /// Byte of the disk.
        at: u64,
        /// What is written.
        data: Arc<[u8]>,
        /// It was on the medium when it was answered.
        fua: bool,
    },
    /// Everything that was written before is on the medium.
    Flush,
}

/// The disk as the kernel sees it, and everything that happened to it.
pub struct Recorder {
    state: Mutex<State>,
    count: AtomicUsize,
}

struct State {
    live: Image,
    events: Vec<Event>,
}

impl Recorder {
    /// A disk that holds `start`, and of which nothing is recorded yet.
    pub fn new(start: Image) -> Self {
        Self {
            state: Mutex::new(State { live: start, events: Vec::new() }),
            count: AtomicUsize::new(0),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Its size.
    pub fn bytes(&self) -> u64 {
        self.state().live.bytes()
    }

    /// Number of events so far: a place in the record.
    pub fn now(&self) -> usize {
        self.count.load(Ordering::SeqCst)
    }

    /// Reads what was written last.
    pub fn read(&self, at: u64, into: &mut [u8]) {
        self.state().live.read(at, into);
    }

    /// Records and does a write.
    pub fn write(&self, at: u64, data: Arc<[u8]>, fua: bool) {
        let mut state = self.state();
        state.live.write(at, &data);
        state.events.push(Event::Write { at, data, fua });
        self.count.store(state.events.len(), Ordering::SeqCst);
    }

    /// Records a flush.
    pub fn flush(&self) {
        let mut state = self.state();
        state.events.push(Event::Flush);
        self.count.store(state.events.len(), Ordering::SeqCst);
    }

    /// How many events of which kind are in a part of the record.
    pub fn summary(&self, part: std::ops::Range<usize>) -> String {
        let (mut writes, mut forced, mut flushes) = (0, 0, 0);
        for event in &self.state().events[part] {
            match event {
                Event::Write { fua: true, .. } => forced += 1,
                Event::Write { .. } => writes += 1,
                Event::Flush => flushes += 1,
            }
        }
        format!("{writes} writes, {forced} FUA writes, {flushes} flushes")
    }

    /// The events below `end`.
    pub fn events(&self, end: usize) -> Vec<Event> {
        self.state().events[..end].to_vec()
    }
}

/// What becomes of the writes that were in the cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// All are lost.
    All,
    /// Each is kept with this probability in percent.
    Some(u32),
    /// As `Some(50)`, and every third is torn: each of its sectors is kept or lost.
    Torn,
    /// None is lost: the cut of a disk that wrote everything through.
    Nothing,
}

impl Loss {
    /// One of them, as often as it is worth trying.
    pub fn any(random: &mut Random) -> Self {
        match random.below(100) {
            0..25 => Loss::All,
            25..45 => Loss::Some(50),
            45..60 => Loss::Some(90),
            60..70 => Loss::Some(15),
            70..95 => Loss::Torn,
            _ => Loss::Nothing,
        }
    }
}

/// Makes the images that cuts leave. Cuts are asked for in rising order.
pub struct Cutter {
    events: Vec<Event>,
    /// What is on the medium for certain, by the events below `settled`.
    medium: Image,
    settled: usize,
    tears: Tears,
}

/// Where a write that is under way when the power goes may tear.
#[derive(Clone, Copy, Debug)]
pub struct Tears {
    /// What the disk writes whole or not at all, in bytes.
    pub sector_bytes: usize,
    /// The first bytes of the disk, which are written whole or not at all.
    pub head_bytes: u64,
}

impl Cutter {
    /// `start` is the disk before the first of `events`.
    pub fn new(start: Image, events: Vec<Event>, tears: Tears) -> Self {
        Self { events, medium: start, settled: 0, tears }
    }

    /// The disk after a cut behind the events below `cut`, and how many writes were in the cache.
    ///
    /// # Panics
    /// If an earlier call had a greater `cut`.
    pub fn cut(&mut self, cut: usize, loss: Loss, random: &mut Random) -> (Image, usize) {
        let flushed =
            self.events[..cut].iter().rposition(|event| matches!(event, Event::Flush)).unwrap_or(0);
        assert!(flushed >= self.settled, "cuts are made in rising order");
        for event in &self.events[self.settled..flushed] {
            if let Event::Write { at, data, .. } = event {
                self.medium.write(*at, data);
            }
        }
        self.settled = flushed;
        let mut image = self.medium.clone();
        let mut volatile = 0;
        for event in &self.events[flushed..cut] {
            let Event::Write { at, data, fua } = event else { continue };
            if *fua {
                image.write(*at, data);
                continue;
            }
            volatile += 1;
            match loss {
                Loss::All => {}
                Loss::Nothing => image.write(*at, data),
                Loss::Some(percent) => {
                    if random.chance(percent) {
                        image.write(*at, data);
                    }
                }
                Loss::Torn if random.chance(33) => {
                    let Tears { sector_bytes, head_bytes } = self.tears;
                    let head = random.chance(50);
                    for (number, sector) in data.chunks(sector_bytes).enumerate() {
                        let at = at + (number * sector_bytes) as u64;
                        if if at < head_bytes { head } else { random.chance(50) } {
                            image.write(at, sector);
                        }
                    }
                }
                Loss::Torn => {
                    if random.chance(50) {
                        image.write(*at, data);
                    }
                }
            }
        }
        (image, volatile)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECTOR: usize = 512;
    const TEARS: Tears = Tears { sector_bytes: SECTOR, head_bytes: 0 };

    fn write(at: u64, byte: u8, fua: bool) -> Event {
        Event::Write { at, data: vec![byte; SECTOR].into(), fua }
    }

    fn byte(image: &Image, at: u64) -> u8 {
        let mut one = [0];
        image.read(at, &mut one);
        one[0]
    }

    #[test]
    fn a_cut_keeps_what_was_flushed_or_forced_and_loses_the_rest() {
        let events = vec![
            write(0, 1, false),
            Event::Flush,
            write(512, 2, false),
            write(1024, 3, true),
            write(0, 4, false),
            Event::Flush,
        ];
        let mut random = Random::new(1);
        let mut cutter = Cutter::new(Image::zeros(8192), events, TEARS);
        let (image, volatile) = cutter.cut(1, Loss::All, &mut random);
        assert_eq!((byte(&image, 0), volatile), (0, 1));
        let (image, volatile) = cutter.cut(5, Loss::All, &mut random);
        assert_eq!([0, 512, 1024].map(|at| byte(&image, at)), [1, 0, 3]);
        assert_eq!(volatile, 2);
        let (image, _) = cutter.cut(5, Loss::Nothing, &mut random);
        assert_eq!([0, 512, 1024].map(|at| byte(&image, at)), [4, 2, 3]);
        let (image, volatile) = cutter.cut(6, Loss::All, &mut random);
        assert_eq!([0, 512, 1024].map(|at| byte(&image, at)), [4, 2, 3]);
        assert_eq!(volatile, 0);
    }

    #[test]
    fn a_torn_write_keeps_whole_sectors() {
        let events =
            (0..64).map(|n| Event::Write { at: n * 4096, data: vec![7; 4096].into(), fua: false });
        let mut cutter = Cutter::new(Image::zeros(64 * 4096), events.collect(), TEARS);
        let (image, _) = cutter.cut(64, Loss::Torn, &mut Random::new(2));
        let sectors: Vec<u8> = (0..512).map(|n| byte(&image, n * 512)).collect();
        assert_eq!(sectors, (0..512).map(|n| byte(&image, n * 512 + 511)).collect::<Vec<_>>());
        let torn = sectors.chunks(8).filter(|page| page.contains(&0) && page.contains(&7)).count();
        assert!(torn > 5 && torn < 40, "{torn} torn");
    }

    #[test]
    fn the_head_of_the_disk_does_not_tear() {
        let tears = Tears { head_bytes: 4096, ..TEARS };
        let (mut whole, mut torn) = (0, 0);
        for seed in 0..64 {
            let events = vec![Event::Write { at: 0, data: vec![7; 8192].into(), fua: false }];
            let mut cutter = Cutter::new(Image::zeros(8192), events, tears);
            let (image, _) = cutter.cut(1, Loss::Torn, &mut Random::new(seed));
            let sectors: Vec<u8> = (0..16).map(|n| byte(&image, n * 512)).collect();
            whole += usize::from(sectors[..8] == [7; 8]);
            assert!(sectors[..8] == [7; 8] || sectors[..8] == [0; 8], "{sectors:?}");
            torn += usize::from(sectors[8..].contains(&0) && sectors[8..].contains(&7));
        }
        assert!(whole > 0 && torn > 0);
    }

    #[test]
    fn a_write_across_pages_reads_back() {
        let mut image = Image::zeros(16384);
        let data: Vec<u8> = (0..6000).map(|n| (n % 251) as u8 + 1).collect();
        image.write(3500, &data);
        let mut back = vec![0; 6000];
        image.read(3500, &mut back);
        assert_eq!(back, data);
        assert_eq!((byte(&image, 3499), byte(&image, 9500)), (0, 0));
    }
}
