//! The disk of the embedded ledger fills up.

use std::thread;
use std::time::Duration;

use super::Scene;
use crate::support::disk::{Disk, with_mounts};
use crate::support::{Place, until};

#[test]
fn a_full_disk_stops_no_clicks_and_forgets_no_holds() {
    with_mounts("faults::disk::a_full_disk_stops_no_clicks_and_forgets_no_holds", || {
        let place = Place::new();
        let disk = Disk::on(&place, "24m");
        let scene = Scene::new(place, &[]);
        let (server, crowd) = scene.open();
        for _ in 0..3 {
            disk.fill();
            until(|| server.metric("ledger_up") == 0.0);
            // Longer than the leases live.
            thread::sleep(Duration::from_secs(3));
            crowd.until_clicked(50);
            assert!(server.warnings().contains("full"), "{}", server.warnings());
            disk.make_room();
            until(|| server.metric("ledger_up") == 1.0);
            crowd.until_held(20);
        }
        assert_eq!((crowd.refused(), crowd.unanswered()), (Vec::new(), 0));
        assert!(server.metric("ledger_unknown_total") > 0.0, "no commit was under way");
        scene.close(server, crowd);
    });
}
