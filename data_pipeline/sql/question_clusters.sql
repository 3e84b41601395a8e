-- documents (number, cluster, site, question_id, response_id, …)
-- -> for every question that is similar to another, the group_id of its cluster's representative.
SELECT
    questions.site,
    questions.question_id,
    firsts.site || '/' || firsts.question_id AS cluster
FROM documents AS questions
JOIN documents AS firsts ON firsts.number = questions.cluster
WHERE questions.response_id IS NULL
ORDER BY questions.number;
