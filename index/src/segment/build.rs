//! A new segment from live rows: written, opened, and gone without a trace when that fails.

use crate::error::Result;
use crate::segment::open::open_segment;
use crate::segment::write::{SegmentPlan, write_segment};
use crate::segment::{Segment, segment_dir};

/// Writes and opens a segment; `None` when the plan has no rows. A failure leaves nothing behind.
pub(crate) fn build_segment(plan: &SegmentPlan<'_>) -> Result<Option<Segment>> {
    if plan.rows.len() == 0 {
        return Ok(None);
    }
    let folder = segment_dir(plan.id);
    // A try that failed, or a crash, may have left files under this number.
    plan.directory.delete_dir(&folder)?;
    let opened = write_segment(plan)
        .and_then(|_rows| open_segment(plan.directory, plan.id, plan.schema, plan.vectors, false));
    if opened.is_err() {
        // Best effort: what stays is swept at the next start.
        let _ = plan.directory.delete_dir(&folder);
    }
    opened.map(Some)
}
