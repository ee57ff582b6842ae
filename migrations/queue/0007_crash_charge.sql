-- Jobs that are charged with the death of a worker. A worker that was only cut off takes back what stands here against
-- it, whether or not it ever knew of the job: the answer to the claim may have been lost with the connection.

create table queue.crash_charge (
    worker bigint not null,
    job    bigint not null,
    fence  bigint not null, -- of the attempt that the worker's death ended
    constraint crash_charge_pkey primary key (worker, job, fence)
);
