"""`ivjax data build`: from annotations and videos to a corpus of clips, restartable."""
