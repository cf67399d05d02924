// The service's own words for where a task is and how urgent it is.

export const FINAL = ["succeeded", "failed", "cancelled", "expired"];
export const STATUSES = ["scheduled", "queued", "running", "retrying", ...FINAL];
export const PRIORITIES = ["high", "normal", "low"];

export const isFinal = (status) => FINAL.includes(status);
