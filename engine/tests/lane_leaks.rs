//! Futures dropped in flight leak no descriptor, and what they began still happens. Alone in its
//! process, because it counts the process's descriptors.

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use engine::io::{HelperPool, Lane};
use tokio::task::LocalSet;

fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").expect("procfs").count()
}

#[test]
fn dropped_futures_leak_no_descriptor_and_their_writes_still_happen() {
    for ring in [true, false] {
        let dir = tempfile::tempdir().unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(LocalSet::new().run_until(async {
            let pool = HelperPool::new(2);
            let lane = match ring {
                true => Lane::ring(pool.clone()).unwrap_or(Lane::pool(pool)),
                false => Lane::pool(pool),
            };
            let file = lane.create(&dir.path().join("target")).await.unwrap();
            let before = descriptors();
            let mut context = Context::from_waker(Waker::noop());
            let mut in_flight = 0;
            for n in 0..2000u64 {
                drop(pin!(lane.create(&dir.path().join(n.to_string()))).poll(&mut context));
                let write = pin!(lane.write(&file, vec![1; 70_000], n)).poll(&mut context);
                // A helper may be done before we look; nearly all are still in flight.
                in_flight += u32::from(matches!(write, Poll::Pending));
                drop(pin!(lane.read(&file, 0, 100)).poll(&mut context));
                if n % 100 == 0 {
                    tokio::task::yield_now().await;
                }
            }
            assert!(in_flight > 1000, "writes of this size are not inline: {in_flight} of 2000");
            let (last, bytes) = (dir.path().join("1999"), 1999 + 70_000);
            for _ in 0..2000 {
                if last.exists() && lane.size(&file).await.unwrap() == bytes {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            assert!(last.exists());
            assert_eq!(lane.size(&file).await.unwrap(), bytes);
            // The last completions may be on their way.
            for _ in 0..400 {
                if descriptors() <= before {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            assert!(descriptors() <= before, "{before} descriptors before, {}", descriptors());
        }));
    }
}
