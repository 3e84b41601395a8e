-- ranked -> candidates: the best answer of a question against every other one.
CREATE OR REPLACE TEMP VIEW candidates AS
SELECT
    better.question, better.position AS chosen, worse.position AS rejected,
    better.score - worse.score AS margin, better.key AS chosen_key, worse.key AS rejected_key
FROM ranked AS better
JOIN ranked AS worse ON worse.question = better.question
WHERE better.place = 1 AND better.score - worse.score >= getvariable('min_margin');
